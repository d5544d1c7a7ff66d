"""Streams on a mesh against walking every hop, and a link with credits against every cycle."""

from __future__ import annotations

from collections import Counter, deque

import numpy as np
from depth import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.components.compute.dataflow_mesh import Mesh, Streams

_SMALL = st.integers(1, 5)
_MESHES = st.builds(Mesh, st.integers(1, 6), st.integers(1, 6), st.just(2), st.just(8), _SMALL)


def walked(mesh: Mesh, pairs: list[tuple[tuple[int, int], tuple[int, int], int]]) -> Counter[tuple[object, ...]]:
    """Bytes on each link, hop by hop: along the row, then along the column."""
    loads: Counter[tuple[object, ...]] = Counter()
    for (row, column), (to_row, to_column), n_bytes in pairs:
        while (row, column) != (to_row, to_column):
            at = row, column
            if column != to_column:
                column += 1 if to_column > column else -1
            else:
                row += 1 if to_row > row else -1
            loads[at, (row, column)] += n_bytes
    return +loads


def told(streams: Streams) -> Counter[tuple[object, ...]]:
    """The same of what the model says."""
    loads: Counter[tuple[object, ...]] = Counter()
    rows, columns = streams.links
    for back, line, place in np.ndindex(*rows.shape):
        ends = [(line, place), (line, place + 1)]
        loads[tuple(reversed(ends)) if back else tuple(ends)] += int(rows[back, line, place])
    for back, line, place in np.ndindex(*columns.shape):
        ends = [(place, line), (place + 1, line)]
        loads[tuple(reversed(ends)) if back else tuple(ends)] += int(columns[back, line, place])
    return +loads


@settings(max_examples=examples(200), deadline=None)
@given(_MESHES, st.data())
def test_loads_are_those_of_walking_every_hop(mesh: Mesh, data: st.DataObject) -> None:
    units = mesh.rows * mesh.columns
    streams, pairs = Streams(mesh), []
    row, column = mesh.place(np.arange(units))
    places = list(zip(row.tolist(), column.tolist(), strict=True))
    assert sorted(places) == [(r, c) for r in range(mesh.rows) for c in range(mesh.columns)]
    for _ in range(data.draw(st.integers(1, 3))):
        ranges = []
        for _ in range(2):
            first = data.draw(st.integers(0, units - 1))
            ranges.append(range(first, data.draw(st.integers(first + 1, units))))
        n_bytes, out = data.draw(st.integers(0, 500)), data.draw(st.booleans())
        streams.between(*ranges, n_bytes)
        count = max(map(len, ranges))
        ends = [sorted(places[unit] for unit in units) for units in ranges]
        for part in range(count):
            source, target = (end[part * len(end) // count] for end in ends)
            pairs.append((source, target, n_bytes // count + (part < n_bytes % count)))
        streams.memory(ranges[0], n_bytes, out)
        count = len(ranges[0])
        for part, unit in enumerate(ranges[0]):
            here = places[unit]
            port = (here[0], 0 if 2 * here[1] < mesh.columns else mesh.columns - 1)
            share = n_bytes // count + (part < n_bytes % count)
            pairs.append((here, port, share) if out else (port, here, share))
    loads = walked(mesh, pairs)
    assert told(streams) == loads
    assert streams.busiest_bytes == max(loads.values(), default=0)


@settings(max_examples=examples(200), deadline=None)
@given(st.integers(1, 40), st.integers(1, 6), st.integers(1, 14), st.integers(1, 4))
def test_a_link_with_credits_takes_as_long_as_every_cycle_says(flits: int, hop: int, credits: int, links: int) -> None:
    """A stream over several links in a row, each switch sending on what has come while the next one has places."""
    mesh = Mesh(1, 2, hop, 8, credits)
    there: list[deque[int]] = [deque() for _ in range(links + 1)]  # ticks at which flits come to each switch
    free = [credits] * links
    back: list[deque[int]] = [deque() for _ in range(links)]
    there[0] = deque([0] * flits)
    sent: list[list[int]] = [[] for _ in range(links)]
    for cycle in range(8 * (hop + 1) * (flits + links)):
        for link in range(links):
            while back[link] and back[link][0] <= cycle:
                back[link].popleft()
                free[link] += 1
        for link in reversed(range(links)):
            if there[link] and there[link][0] <= cycle and free[link]:
                there[link].popleft()
                free[link] -= 1
                sent[link].append(cycle)
                there[link + 1].append(cycle + hop)
                if link:
                    back[link - 1].append(cycle + hop)
        while there[links] and there[links][0] <= cycle:
            there[links].popleft()
            back[links - 1].append(cycle + hop)
    assert len(sent[-1]) == flits
    for link in range(links):
        assert sent[link][-1] + 1 - sent[link][0] == mesh.cycles(8 * flits)
    assert sent[-1][0] == (links - 1) * hop
