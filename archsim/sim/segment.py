"""The times of a piece that is alone on its rank."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from archsim.model.lowered import Blocks
from archsim.model.memory import Sharing
from archsim.sim.rank import play
from archsim.sim.schedule import OpTimes, OutOfOrder, SegmentTimes, schedule
from archsim.workloads.dims import Dim, lanes, row_of_steps

_MANY = 5_000
"""ops that take as long as to load the compiled rank"""


def simulate(blocks: Blocks, steps: int, grains: Mapping[str, Sharing]) -> SegmentTimes:
    """All steps at once where that is exact, else step by step, op by op.

    Parameters
    ----------
    blocks: the lowered ops of each block, and how often it is repeated. steps: steps of the segment.
    grains: memories that serve streams grain by grain, and how.
    """
    try:
        return schedule(blocks)
    except OutOfOrder:
        if steps * sum(len(ops) * repeat for ops, repeat in blocks) >= _MANY:
            from archsim.sim.rank_table import play as play_compiled  # the compiler is as slow to load as many ops are

            with contextlib.suppress(OverflowError):
                return play_compiled(blocks, steps, grains)
        each = [play([(tuple(op.at(step) for op in ops), n) for ops, n in blocks], grains) for step in range(steps)]
    return together(each)


def together(each: Sequence[SegmentTimes], steps: Sequence[int] | None = None) -> SegmentTimes:
    """Times of one part after the other as lanes; their ops are in the same copies.

    Parameters
    ----------
    steps: of each part; one when absent.
    """

    def many(values: list[Any]) -> Dim:
        if steps is not None:
            return row_of_steps(values, steps)
        return lanes(values) if len(values) > 1 else values[0]

    ops = [
        OpTimes(
            rows[0].block,
            rows[0].op,
            rows[0].first,
            many([r.start for r in rows]),
            rows[0].copies,
            many([r.period for r in rows]) if rows[0].copies > 1 else 0,
            end=many([r.end for r in rows]),
            exposed=many([r.exposed for r in rows]),
        )
        for rows in zip(*(times.ops for times in each), strict=True)
    ]
    return SegmentTimes(ops, many([t.step_ticks for t in each]), sum(t.copies_simulated for t in each))
