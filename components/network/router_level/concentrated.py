"""Fabrics of few routers with many nodes each: concentrated meshes and flattened butterflies, two-dimensional.

Nodes are numbered row by row over the whole chip, so that those of a router are a square of it. Channels are as long as
what they pass over, in nodes; ports are numbered as BookSim numbers them.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from archsim.components.network.router_level.fabric import TABLE, TWO_TABLES, Fabric, FabricBuilder
from archsim.errors import InputError

Ints = npt.NDArray[np.int64]

_EAST, _WEST, _NORTH, _SOUTH = range(4)


def concentrated_mesh(radix: int, routing: str = "dor") -> Fabric:
    """A mesh of ``radix`` x ``radix`` routers of four nodes (Balfour and Dally, ICS 2006).

    Ports 0 to 3 lead to the nodes, 4 to 7 up and down in x and in y. On the edge the free ports of a router lead along
    the edge to the router half a mesh away.

    Parameters
    ----------
    routing: ``dor``, x first, over these express channels where they help; ``dor_no_express``; or
        ``xy_yx_no_express``, an order drawn for each packet, each with half of the virtual channels.

    Raises
    ------
    InputError: no such mesh.
    """
    if radix < 2 or radix % 2 or radix > 64:
        raise InputError(f"no concentrated mesh of {radix} routers a side can be built: an even number of 2 to 64 can")
    routers, half = radix * radix, radix // 2
    builder = FabricBuilder(routers, 4 * routers, 8)
    for router in range(routers):
        y, x = divmod(router, radix)
        _nodes(builder, router, x, y, radix, 2)
        express_x, express_y = (x + half) % radix, (y + half) % radix
        # What comes in by a port, by the port opposite to it, or by the same one along an edge.
        before = {
            _EAST: (x + 1, y, _WEST) if x < radix - 1 else (x, express_y, _EAST),
            _WEST: (x - 1, y, _EAST) if x > 0 else (x, express_y, _WEST),
            _NORTH: (x, y + 1, _SOUTH) if y < radix - 1 else (express_x, y, _NORTH),
            _SOUTH: (x, y - 1, _NORTH) if y > 0 else (express_x, y, _SOUTH),
        }
        for port, (from_x, from_y, out) in before.items():
            # Along an edge over half a mesh of two nodes each, else over the two nodes between routers.
            latency = radix if port == out else 2
            builder.channel(from_y * radix + from_x, 4 + out, router, 4 + port, latency)
    ports = np.full(routers, 8, dtype=np.int64)
    orders = {
        "dor": [(True, True)],
        "dor_no_express": [(True, False)],
        "xy_yx_no_express": [(True, False), (False, False)],
    }
    if routing not in orders:
        raise InputError(f"a concentrated mesh is routed by {', '.join(orders)}, not '{routing}'")
    tables = [_mesh_table(builder.homes, radix, *order) for order in orders[routing]]
    name = f"cmesh_k{radix}c4"
    return builder.done(name, ports, TABLE if len(tables) == 1 else TWO_TABLES, (4,), np.concatenate(tables))


def _mesh_table(homes: Ints, radix: int, x_first: bool, express: bool) -> Ints:
    """Output ports by router and node: one dimension after the other."""
    routers = radix * radix
    table = np.zeros((routers, len(homes)), dtype=np.int64)
    for router in range(routers):
        here = (router % radix, router // radix)
        for node, home in enumerate(homes[:, 0]):
            there = (int(home) % radix, int(home) // radix)
            if here == there:
                table[router, node] = homes[node, 2]
                continue
            order = (0, 1) if x_first else (1, 0)
            dimension = order[0] if here[order[0]] != there[order[0]] else order[1]
            away, across = there[dimension] - here[dimension], here[1 - dimension]
            port = 2 * dimension + (0 if away > 0 else 1)
            if express and abs(away) > radix // 2 - 1 and across in (0, radix - 1):
                port = 2 * (1 - dimension) + (1 if across == 0 else 0)
            table[router, node] = 4 + port
    return table


def flattened_butterfly(radix: int, concentration: int, routing: str = "ran_min") -> Fabric:
    """``radix`` x ``radix`` routers, each joined with all of its row and column (Kim, Dally and Abts, ISCA 2007).

    Ports lead to the nodes, then to the others of the row, then to those of the column.

    Parameters
    ----------
    concentration: nodes of a router, a square. routing: ``ran_min``, x first; or ``xyyx``, an order drawn for each
        packet, each with half of the virtual channels.

    Raises
    ------
    InputError: no such butterfly.
    """
    side = math.isqrt(concentration)
    if side * side != concentration or not 2 <= radix <= 32 or not 1 <= side <= 8:
        raise InputError(
            f"no flattened butterfly of {radix} routers a side and {concentration} nodes each can be built: 2 to 32 "
            "routers of a square of nodes can"
        )
    if routing not in ("ran_min", "xyyx"):
        raise InputError(f"a flattened butterfly is routed by ran_min or xyyx, not '{routing}'")
    routers = radix * radix
    builder = FabricBuilder(routers, concentration * routers, concentration + 2 * (radix - 1))
    for router in range(routers):
        _nodes(builder, router, router % radix, router // radix, radix, side, _distances(side))
    into = [concentration] * routers
    for router in range(routers):
        y, x = divmod(router, radix)
        for dimension in range(2):
            here = (x, y)[dimension]
            for place in range(radix):
                if place == here:
                    continue
                other = y * radix + place if dimension == 0 else place * radix + x
                out = concentration + dimension * (radix - 1) + place - (place > here)
                builder.channel(router, out, other, into[other], side * abs(place - here))
                into[other] += 1
    ports = np.full(routers, concentration + 2 * (radix - 1), dtype=np.int64)
    orders = ((0, 1),) if routing == "ran_min" else ((0, 1), (1, 0))
    tables = [_butterfly_table(builder.homes, radix, concentration, order) for order in orders]
    rule = TABLE if len(tables) == 1 else TWO_TABLES
    return builder.done(f"flatfly_k{radix}c{concentration}", ports, rule, (concentration,), np.concatenate(tables))


def _butterfly_table(homes: Ints, radix: int, concentration: int, order: tuple[int, int]) -> Ints:
    """Output ports by router and node: one dimension after the other."""
    routers = radix * radix
    table = np.zeros((routers, len(homes)), dtype=np.int64)
    for router in range(routers):
        here = (router % radix, router // radix)
        for node, home in enumerate(homes[:, 0]):
            there = (int(home) % radix, int(home) // radix)
            if here == there:
                table[router, node] = homes[node, 2]
                continue
            dimension = order[0] if here[order[0]] != there[order[0]] else order[1]
            place = there[dimension]
            table[router, node] = concentration + dimension * (radix - 1) + place - (place > here[dimension])
    return table


def _nodes(
    builder: FabricBuilder, router: int, x: int, y: int, radix: int, side: int, lengths: list[int] | None = None
) -> None:
    """The square of nodes of a router, row by row; channels of one cycle where no lengths are given."""
    for port in range(side * side):
        row, column = divmod(port, side)
        node = radix * side * (side * y + row) + side * x + column
        builder.node(node, router, port, port, 1 if lengths is None else lengths[port])


def _distances(side: int) -> list[int]:
    """Cycles from each node of a square to the router in its middle, in the order in which BookSim takes them."""
    found = []
    down, across = -(side // 2), -(side // 2)
    for _ in range(side * side):
        if down == 0 and side % 2 == 0:
            down += 1
        if across == 0 and side % 2 == 0:
            across += 1
        found.append(1 + max(abs(down) - 1, 0) + max(abs(across) - 1, 0))
        down += 1
        if down > side // 2:
            down, across = -(side // 2), across + 1
    return found
