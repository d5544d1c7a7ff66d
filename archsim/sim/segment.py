"""The times of a segment, whichever way they are found."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from archsim.model.lowered import Lowered
from archsim.sim.schedule import OpTimes, OutOfOrder, SegmentTimes, schedule
from archsim.workloads.op import Dim


def simulate(
    blocks: Sequence[tuple[Sequence[Lowered], int]], steps: int, ranks: int = 1, brute_force: bool = False
) -> SegmentTimes:
    """All steps at once where that is exact, else step by step, event by event.

    Parameters
    ----------
    blocks: the lowered ops of each block, and how often it is repeated. steps: steps of the segment.
    ranks: equal ranks to simulate side by side; one stands for all unless they are to be proven equal.
    brute_force: event by event in any case, nothing folded.
    """
    if not brute_force:
        try:
            return schedule(blocks)
        except OutOfOrder:
            pass
    from archsim.sim.events import simulate_step  # SimPy is not needed for most runs

    each = [
        simulate_step([(tuple(op.at(step) for op in ops), repeat) for ops, repeat in blocks], ranks)
        for step in range(steps)
    ]
    columns = zip(*(times.ops for times in each), strict=True)

    def lanes(values: list[Dim]) -> Dim:
        return np.array(values, dtype=np.int64) if steps > 1 else values[0]

    ops = [
        OpTimes(
            rows[0].block,
            rows[0].op,
            rows[0].first,
            lanes([r.start for r in rows]),
            end=lanes([r.end for r in rows]),
            exposed=lanes([r.exposed for r in rows]),
        )
        for rows in columns
    ]
    return SegmentTimes(ops, lanes([t.step_ticks for t in each]), sum(t.copies_simulated for t in each))
