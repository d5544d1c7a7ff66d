"""Allocators: who of those that ask gets what, at most one for each of either side."""

from __future__ import annotations

from archsim.components.compiled import part
from archsim.components.network.router_level.state import State


@part
def ahead(place: int, pointer: int, count: int) -> int:
    """How far ``place`` lies ahead of a round-robin pointer, both below ``count``."""
    away = place - pointer
    return away + count if away < 0 else away


@part
def after(place: int, count: int) -> int:
    """The place after this one, in a circle of ``count``."""
    return 0 if place + 1 == count else place + 1


@part
def grant_channels(s: State, router: int, now: int) -> None:
    """iSLIP for virtual channels: each free one grants the next head in its turn, a head accepts the next in its own.

    Leaves what each head has got in the first row of scratch, who has it in the second, and in the seventh whether that
    came after the first round, when pointers stay.
    """
    settings, queues, ivc, ovc = s.settings, s.queues[router], s.ivc, s.ovc
    vcs, base, many = settings.vcs, router * settings.ports * settings.vcs, s.fabric_ports[router] * settings.vcs
    heads, asked, winner, late = s.heads[router], s.scratch[0], s.scratch[1], s.scratch[6]
    for e in range(queues.heads):
        asked[e] = -1
    for turn in range(settings.vc_islip):
        granted = 0
        for e in range(queues.heads):
            q = heads[e]
            if asked[e] >= 0 or ivc[q].ready > now:
                continue
            p = s.packets[s.buffers[q, ivc[q].first] // settings.size]
            for vc in range(p.from_vc, p.to_vc + 1):
                o = p.port * vcs + vc
                if ovc[base + o].holder >= 0 or (winner[o] >= 0 and _has(s, router, winner[o], o)):
                    continue
                pointer = ovc[base + o].turn
                if winner[o] < 0 or ahead(q - base, pointer, many) < ahead(winner[o] - base, pointer, many):
                    winner[o] = q
                granted += 1
        for e in range(queues.heads):
            q = heads[e]
            if asked[e] >= 0 or ivc[q].ready > now:
                continue
            p = s.packets[s.buffers[q, ivc[q].first] // settings.size]
            best = many
            for vc in range(p.from_vc, p.to_vc + 1):
                o = p.port * vcs + vc
                if winner[o] == q:
                    away = ahead(o, ivc[q].pointer, many)
                    if away < best:
                        best = away
                        asked[e] = o
                        late[e] = turn
            for vc in range(p.from_vc, p.to_vc + 1):
                o = p.port * vcs + vc
                if winner[o] == q and o != asked[e]:
                    winner[o] = -1
        if granted == 0:
            break


@part
def _has(s: State, router: int, q: int, o: int) -> bool:
    """Whether a head has accepted an output channel."""
    heads, asked = s.heads[router], s.scratch[0]
    for e in range(s.queues[router].heads):
        if heads[e] == q:
            return bool(asked[e] == o)
    return False


@part
def grant_switch(s: State, router: int) -> None:
    """iSLIP for the switch: each output grants the next input in its turn, an input accepts the next in its own.

    Leaves the output of each input in the fourth row of scratch, the input of each output in the fifth, and in the
    eighth whether that came after the first round, when pointers stay.
    """
    settings, ports_ = s.settings, s.ports
    count, lane = s.fabric_ports[router], router * settings.ports
    offered, chosen, taken, late = s.scratch[2], s.scratch[3], s.scratch[4], s.scratch[7]
    for turn in range(settings.switch_islip):
        for o in range(count):
            if taken[o] >= 0:
                continue
            pointer = ports_[lane + o].output_turn
            for i in range(count):
                if chosen[i] >= 0 or offered[i * count + o] < 0:
                    continue
                if taken[o] < 0 or ahead(i, pointer, count) < ahead(taken[o], pointer, count):
                    taken[o] = i
        accepted = 0
        for i in range(count):
            if chosen[i] >= 0:
                continue
            pointer = ports_[lane + i].input_turn
            for o in range(count):
                if taken[o] == i and (chosen[i] < 0 or ahead(o, pointer, count) < ahead(chosen[i], pointer, count)):
                    chosen[i] = o
            if chosen[i] >= 0:
                late[i] = turn
                accepted += 1
        for o in range(count):
            if taken[o] >= 0 and chosen[taken[o]] != o:
                taken[o] = -1
        if accepted == 0:
            break
