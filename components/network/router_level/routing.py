"""Which output port a packet takes at a router, and by which virtual channels."""

from __future__ import annotations

from archsim.compiled.kernel import part
from archsim.components.network.router_level.fabric import DRAGONFLY, FAT_TREE, MESH, TORUS, TWO_TABLES
from archsim.components.network.router_level.random_numbers import next_int
from archsim.components.network.router_level.state import State


@part
def route(s: State, router: int, into: int, packet: int) -> None:
    """Choose the output port and the virtual channels that a packet may take at a router it enters by ``into``."""
    rule, vcs = s.settings.rule, s.settings.vcs
    p = s.packets[packet]
    target = p.target
    first, last = 0, vcs - 1
    if rule <= TORUS:
        radix, dimensions = s.figures[0], s.figures[1]
        here, there, dimension = router, target, 0
        while dimension < dimensions and here % radix == there % radix:
            here //= radix
            there //= radix
            dimension += 1
        here %= radix
        there %= radix
        if dimension == dimensions:
            port = 2 * dimensions
        elif rule == MESH:
            port = 2 * dimension + (0 if here < there else 1)
        else:
            if into // 2 != dimension:
                left_over = radix - 2 * ((there - here) % radix)
                up = left_over > 0 or (left_over == 0 and next_int(s.draws, 2) == 1)
                port = 2 * dimension + (0 if up else 1)
                # The dateline lies between the last router of a ring and its first; packets down change sets where
                # they do not cross it, which serves as well.
                p.phase = here > there
            else:
                port = into ^ 1
            half = vcs // 2
            if p.phase:
                first = half
            else:
                last -= half
    elif rule == FAT_TREE:
        radix, levels = s.figures[0], s.figures[1]
        width = radix ** (levels - 1)
        level = router // width
        cover = radix ** (levels - level)
        tree = router % width // (cover // radix)
        if target // cover == tree:
            port = target % radix if level == levels - 1 else (target - tree * cover) // (cover // radix)
        else:
            port = radix + next_int(s.draws, radix)
    elif rule == DRAGONFLY:
        nodes, group_routers = s.figures[0], s.figures[1]
        group, home = router // group_routers, target // nodes
        slot = -1
        exit_router = home
        if home // group_routers != group:
            there = home // group_routers
            slot = there - (1 if there > group else 0)
            exit_router = slot // nodes + group * group_routers
        if into < nodes:
            p.phase = 0
        if home == router:
            port = target % nodes
        elif exit_router == router:
            port = nodes + group_routers - 1 + slot % nodes
            p.phase = 1
        else:
            place = exit_router % group_routers
            port = nodes + place - (1 if router < exit_router else 0)
        first = p.phase
        last = first
    else:
        row = router
        if rule == TWO_TABLES and s.homes[target, 3] != router:
            half = vcs // 2
            if into < s.figures[0]:
                p.phase = next_int(s.draws, 2) == 0
            if p.phase:
                row += s.fabric_ports.size
                first = half
            else:
                last -= half
        port = s.table[row, target]
    p.port, p.from_vc, p.to_vc = port, first, last
