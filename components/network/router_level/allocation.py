"""Allocators: who of those that ask gets what, at most one for each of either side.

Named as in BookSim. Separable ones and iSLIP (McKeown, IEEE/ACM Trans. Networking 1999) go through those that ask. The
others look at all pairs: PIM (Anderson et al., ACM TOCS 1993), the lonely output allocator and the wavefront (Tamir and
Chi, IEEE TPDS 1993; Dally and Towles, chapter 19), and the largest matching, by shortest augmenting paths.
"""

from __future__ import annotations

from archsim.compiled.kernel import part, routine
from archsim.components.network.router_level.random_numbers import next_int
from archsim.components.network.router_level.state import LOA, PIM, WAVEFRONT, WAVEFRONT_SKIPPING, Ints, State


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
    for turn in range(settings.vc_rounds):
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
    for turn in range(settings.switch_rounds):
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


# --- those that look at all pairs ----------------------------------------------------------------------


@part
def match_channels(s: State, router: int, now: int) -> None:
    """Virtual channels by all pairs; what heads have got is left as :func:`grant_channels` leaves it."""
    settings, queues, ivc, ovc = s.settings, s.queues[router], s.ivc, s.ovc
    vcs, base, many = settings.vcs, router * settings.ports * settings.vcs, s.fabric_ports[router] * settings.vcs
    heads, asked, winner = s.heads[router], s.scratch[0], s.scratch[1]
    asking = 0
    for e in range(queues.heads):
        q = heads[e]
        asked[e] = -1
        if ivc[q].ready > now:
            continue
        asking += 1
        p = s.packets[s.buffers[q, ivc[q].first] // settings.size]
        for vc in range(p.from_vc, p.to_vc + 1):
            o = p.port * vcs + vc
            if ovc[base + o].holder < 0:
                s.wanted[q - base, o] = 1
    if not asking:
        return
    turns = s.turns[router]
    queues.vc_turn = _match(
        s.wanted,
        s.matched,
        s.draws,
        settings.vc_allocator,
        settings.vc_rounds,
        many,
        turns[0],
        turns[1],
        queues.vc_turn,
    )
    for e in range(queues.heads):
        q = heads[e]
        if ivc[q].ready > now:
            continue
        asked[e] = s.matched[0, q - base]
        if asked[e] >= 0:
            winner[asked[e]] = q
        for o in range(many):
            s.wanted[q - base, o] = 0


@part
def match_switch(s: State, router: int, asking: int) -> None:
    """The switch by all pairs, ``asking`` of whose packets are there; left as :func:`grant_switch` leaves it."""
    settings, queues, count = s.settings, s.queues[router], s.fabric_ports[router]
    offered, chosen, taken = s.scratch[2], s.scratch[3], s.scratch[4]
    if not asking:
        return
    for i in range(count):
        for o in range(count):
            s.wanted[i, o] = offered[i * count + o] >= 0
    turns = s.turns[router]
    queues.switch_turn = _match(
        s.wanted,
        s.matched,
        s.draws,
        settings.switch_allocator,
        settings.switch_rounds,
        count,
        turns[2],
        turns[3],
        queues.switch_turn,
    )
    for i in range(count):
        chosen[i] = s.matched[0, i]
        if chosen[i] >= 0:
            taken[chosen[i]] = i
        for o in range(count):
            s.wanted[i, o] = 0


@routine
def _match(
    wanted: Ints,
    matched: Ints,
    draws: Ints,
    kind: int,
    rounds: int,
    count: int,
    input_turns: Ints,
    output_turns: Ints,
    turn: int,
) -> int:
    """Match what is wanted, [inputs, outputs]: leaves the output of each input and the input of each output, or -1.

    Returns whose turn it is next in an allocator that has one for all.
    """
    for i in range(count):
        matched[0, i] = -1
        matched[1, i] = -1
    if kind == PIM:
        _match_at_random(wanted, matched, draws, rounds, count)
    elif kind == LOA:
        _match_lonely(wanted, matched, count, input_turns, output_turns)
    elif kind in (WAVEFRONT, WAVEFRONT_SKIPPING):
        return _match_diagonals(wanted, matched, count, turn, kind == WAVEFRONT_SKIPPING)
    else:
        while _augment(wanted, matched, count, turn):
            pass
        return after(turn, count)
    return turn


@part
def _match_at_random(wanted: Ints, matched: Ints, draws: Ints, rounds: int, count: int) -> None:
    """Each output grants one that asks, each input accepts one grant: the next from a place that is drawn."""
    given, taken, granted = matched[0], matched[1], matched[2]
    for _ in range(rounds):
        for o in range(count):
            granted[o] = -1
            first = next_int(draws, count)
            for step in range(count):
                i = (first + step) % count
                if wanted[i, o] and given[i] < 0 and taken[o] < 0:
                    granted[o] = i
                    break
        for i in range(count):
            first = next_int(draws, count)
            for step in range(count):
                o = (first + step) % count
                if granted[o] == i:
                    given[i], taken[o] = o, i
                    break


@part
def _match_lonely(wanted: Ints, matched: Ints, count: int, input_turns: Ints, output_turns: Ints) -> None:
    """Each input asks for the output that the fewest want, each output grants the next in its turn."""
    given, taken, wanting, lonely = matched[0], matched[1], matched[2], matched[3]
    for o in range(count):
        wanting[o] = 0
        for i in range(count):
            wanting[o] += wanted[i, o]
    for i in range(count):
        lonely[i] = -1
        fewest = count + 1
        for step in range(count):
            o = (input_turns[i] + step) % count
            if wanted[i, o] and wanting[o] < fewest:
                lonely[i], fewest = o, wanting[o]
    for o in range(count):
        for step in range(count):
            i = (output_turns[o] + step) % count
            if lonely[i] == o:
                given[i], taken[o] = o, i
                input_turns[i] = after(input_turns[i], count)
                output_turns[o] = after(output_turns[o], count)
                break


@part
def _match_diagonals(wanted: Ints, matched: Ints, count: int, turn: int, skipping: bool) -> int:
    """Diagonals of the matrix one after the other, from the one whose turn it is; what is free in both ways is given.

    ``skipping``: the next turn is that of the diagonal after the first one on which something was given.
    """
    given, taken = matched[0], matched[1]
    first = -1
    for step in range(count):
        for o in range(count):
            i = (turn + step + count - o) % count
            if wanted[i, o] and given[i] < 0 and taken[o] < 0:
                given[i], taken[o] = o, i
                if first < 0:
                    first = i + o
    if first < 0:
        return turn
    return ((first if skipping else turn) + 1) % count


@part
def _augment(wanted: Ints, matched: Ints, count: int, turn: int) -> bool:
    """Make the matching larger by one along a shortest path; inputs without anything are tried from ``turn`` on."""
    given, taken, came, front, following = (
        matched[0], matched[1], matched[2], matched[3], matched[4],
    )  # fmt: skip
    length = 0
    for step in range(count):
        i = (turn + step) % count
        if given[i] < 0:
            front[length] = i
            length += 1
    for o in range(count):
        came[o] = -1
    end = -1
    while length and end < 0:
        found = 0
        for e in range(length):
            i = front[e]
            for o in range(count):
                if not wanted[i, o] or given[i] == o or came[o] >= 0:
                    continue
                came[o] = i
                if taken[o] < 0:
                    end = o
                    break
                following[found] = taken[o]
                found += 1
            if end >= 0:
                break
        for e in range(found):
            front[e] = following[e]
        length = found
    if end < 0:
        return False
    while True:
        i = came[end]
        before = given[i]
        given[i], taken[end] = end, i
        if before < 0:
            return True
        end = before
