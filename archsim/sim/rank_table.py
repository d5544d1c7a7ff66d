"""A lone piece of many ops, written out in numbers for :mod:`archsim.sim.rank_kernel`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, chain

import numpy as np

from archsim.compiled.fields import Records
from archsim.model.lowered import Blocks, Lowered
from archsim.model.memory import Sharing
from archsim.sim import rank_state
from archsim.sim.rank_kernel import play as play_step
from archsim.sim.schedule import OpTimes, SegmentTimes
from archsim.workloads.dims import LARGEST, Dim
from archsim.workloads.op import Collective


def play(blocks: Blocks, steps: int, grains: Mapping[str, Sharing]) -> SegmentTimes:
    """Times of a piece, all its steps.

    Raises
    ------
    OverflowError: a step, all its requests one after the other, does not fit an int64.
    """
    blocks = [(ops, repeat if ops else 0) for ops, repeat in blocks]
    table = _Table(blocks, grains)
    tail = _by_step([op.tail for op in table.written], steps)
    carried = _by_step([_carried(op) for op in table.written], steps)
    ticks = _by_step([ticks for op in table.written for _, ticks, _ in _asks(op)], steps)
    head = _by_step([head for op in table.written for _, _, head in _asks(op)], steps)
    longest = sum(column.sum(axis=1, dtype=float).max() for column in (tail, carried, ticks, head))
    if longest * max(repeat for _, repeat in blocks) >= LARGEST:
        raise OverflowError
    starts, ends = np.zeros((2, table.ops, steps), np.int64)
    for step in range(steps):
        table.rows["tail"], table.rows["carried"] = tail[step], carried[step]
        table.asks["ticks"], table.asks["head"] = ticks[step], head[step]
        state = table.start(grains)
        play_step(state)
        starts[:, step], ends[:, step] = state.ops["start"], state.ops["end"]
    return _times(blocks, starts, ends)


def _numbered(names: Iterable[str | None]) -> dict[str | None, int]:
    return {name: number for number, name in enumerate(dict.fromkeys(names))}


def _asks(op: Lowered) -> list[tuple[str, Dim, Dim]]:
    """Server, ticks and ticks of the head of all that an op asks for, in the order of its phases."""
    late = (op.fill, op.body, op.drain)
    return [(s, t, h) for s, (t, h) in op.prefetch.items()] + [(s, t, 0) for asks in late for s, t in asks.items()]


def _carried(op: Lowered) -> Dim:
    return op.body.get(op.engine, 0) if isinstance(op.op, Collective) else 0


class _Table:
    """Ops of blocks in rows, but for their ticks.

    Attributes
    ----------
    written: the ops, a row each. ops: how many they are with all copies.
    """

    def __init__(self, blocks: Blocks, grains: Mapping[str, Sharing]) -> None:
        written = self.written = [op for ops, _ in blocks for op in ops]
        self._servers = _numbered(chain(grains, *((op.engine, *op.busy()) for op in written)))
        streams = _numbered([None, *(op.op.stream for op in written)])
        self._streams = len(streams)
        waits = [wait for ops, _ in blocks for wait in _waits(ops)]
        self.waits = _ints(chain.from_iterable(waits))
        waits_from = _from(map(len, waits))
        phases = _from(len(phase) for op in written for phase in (op.prefetch, op.fill, op.body, op.drain))
        stream = _ints(streams[op.op.stream] for op in written)
        self.rows = _records(
            rank_state.ROW,
            len(written),
            engine=_ints(self._servers[op.engine] for op in written),
            stream=stream,
            queue=stream,
            carries=_ints(isinstance(op.op, Collective) for op in written),
            fed=_ints(bool(op.prefetch) or any(server != op.engine for server in op.body) for op in written),
            asks=phases[:-1:4],
            fills=phases[1::4],
            body=phases[2::4],
            drain=phases[3::4],
            asks_end=phases[4::4],
            waits=waits_from[:-1],
            waits_end=waits_from[1:],
        )
        servers = _ints(self._servers[server] for op in written for server, _, _ in _asks(op))
        self.asks = _records(rank_state.ASK, len(servers), server=servers)
        rows = _from(len(ops) for ops, _ in blocks)
        sides = [frozenset(op.op.stream for op in ops) for ops, _ in blocks]
        self.blocks = _records(
            rank_state.BLOCK,
            len(blocks),
            row=rows[:-1],
            rows_end=rows[1:],
            times=_ints(repeat for _, repeat in blocks),
            beside=_ints(map(sides.index, sides)),
        )
        self.blocks = self.blocks[self.blocks["times"] > 0]
        copies = np.repeat(self.blocks["times"], self.blocks["rows_end"] - self.blocks["row"])
        self.ops = int(copies.sum())
        self._asked = int((copies * (self.rows["asks_end"] - self.rows["asks"])).sum())
        self._edges = int((copies * (self.rows["waits_end"] - self.rows["waits"] + 2)).sum())

    def start(self, grains: Mapping[str, Sharing]) -> rank_state.State:
        """A rank on which nothing has happened."""
        no, never = rank_state.NONE, rank_state.NEVER
        state = rank_state.State(
            self.rows,
            self.asks,
            self.waits,
            self.blocks,
            ops=_records(
                rank_state.OP,
                self.ops,
                after_issue=no,
                turn_of_done=no,
                after_release=no,
                after_done=no,
                next_on_engine=no,
            ),
            edges=_records(rank_state.EDGE, self._edges),
            servers=_records(rank_state.SERVER, len(self._servers), memory=no, holder=no, queue=no, last_op=no),
            memories=_records(rank_state.MEMORY, len(grains), turn=no, served=no, other=no, serving=no, wakes=never),
            queues=_records(rank_state.QUEUE, (len(grains), self._streams), first=no, last=no),
            requests=_records(rank_state.REQUEST, self._asked),
            events=_records(rank_state.EVENT, 4 * (self.ops + self._asked)),
            now=_records(rank_state.NOW, 1, highest=no, beside=no, last=no),
            issuing=np.full(self._streams, no),
        )
        for number, (name, sharing) in enumerate(sorted(grains.items())):
            state.servers[self._servers[name]].memory = number
            state.memories[number].grain, state.memories[number].first = max(1, sharing.grain), sharing.first
        return state


def _waits(ops: Sequence[Lowered]) -> list[list[int]]:
    """What each op of a block waits for."""
    rows: dict[str, int] = {}
    waits = []
    for row, op in enumerate(ops):
        after = op.op.after
        waits.append([rank_state.BEFORE] if after is None else [rank_state.ENTRY, *(rows[name] for name in after)])
        rows[op.op.name] = row
    return waits


def _records(kind: np.dtype[np.void], count: int | tuple[int, int], **values: int | rank_state.Ints) -> Records:
    """Rows of zeros but for the values given; what is never written takes no memory."""
    rows = np.zeros(count, kind).view(np.recarray)
    for name, value in values.items():
        rows[name] = value
    return rows


def _ints(values: Iterable[int]) -> rank_state.Ints:
    return np.fromiter(values, np.int64)


def _from(counts: Iterable[int]) -> rank_state.Ints:
    """Where each of so many begins, and where the last ends."""
    return _ints(accumulate(counts, initial=0))


def _by_step(values: Sequence[Dim], steps: int) -> rank_state.Ints:
    """Values in each step, [step, value]."""
    rows = np.empty((steps, len(values)), np.int64)
    rows[:] = [0 if isinstance(value, np.ndarray) else value for value in values]
    for place, value in enumerate(values):
        if isinstance(value, np.ndarray):
            rows[:, place] = value
    return rows


def _times(blocks: Blocks, starts: rank_state.Ints, ends: rank_state.Ints) -> SegmentTimes:
    """Times by op in program order, from [op, step]."""
    frontiers = np.maximum.accumulate(ends, axis=0)
    before = np.concatenate([np.zeros_like(ends[:1]), frontiers[:-1]])
    exposed = np.maximum(ends - before, 0)
    one = starts.shape[1] == 1

    def value(row: rank_state.Ints) -> Dim:
        return int(row[0]) if one else row

    places = [(b, i, copy) for b, (ops, repeat) in enumerate(blocks) for copy in range(repeat) for i in range(len(ops))]
    ops = [
        OpTimes(*place, value(starts[n]), end=value(ends[n]), exposed=value(exposed[n]))
        for n, place in enumerate(places)
    ]
    return SegmentTimes(ops, value(frontiers[-1]), sum(repeat for _, repeat in blocks) * starts.shape[1])
