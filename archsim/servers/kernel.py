"""Servers between two readings of the meter, compiled: each takes its requests first come, first served."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from archsim.compiled.kernel import kernel

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@kernel
def advance(
    now: float,
    until: float,
    clocks: Ints,
    seconds: Floats,
    watts: Floats,
    idle_w: float,
    comes: Floats,
    kinds: Ints,
    upto: Ints,
    cursor: Ints,
    phase: Ints,
    left: Floats,
    high: Ints,
    latency: Ints,
    done: Ints,
) -> float:
    """Energy of all servers from ``now`` until ``until``, J; seconds.

    Parameters
    ----------
    clocks: [servers] the clock of each. seconds, watts: [kinds, phases, clocks]. comes, kinds: arrivals of all servers,
        those of a server up to ``upto``; cursor: its next one, or the one that it serves.
    phase: [servers] -1 idle, 0 prompt, 1 answer. left: share of its phase that is to be done.
    high: [servers] whether of high priority. latency: [2, bins] counts by latency, a bin for each 0.1%. done: [2].
    """
    energy = 0.0
    for s in range(clocks.size):
        t = now
        clock = clocks[s]
        while t < until:
            if phase[s] < 0:
                if cursor[s] == upto[s] or comes[cursor[s]] >= until:
                    energy += idle_w * (until - t)
                    break
                begin = max(t, comes[cursor[s]])
                energy += idle_w * (begin - t)
                t = begin
                phase[s] = 0
                left[s] = 1.0
            kind = kinds[cursor[s]]
            whole = seconds[kind, phase[s], clock]
            needs = left[s] * whole
            takes = min(needs, until - t)
            energy += watts[kind, phase[s], clock] * takes
            t += takes
            if takes < needs:
                left[s] -= takes / whole
                break
            if phase[s] == 0:
                phase[s] = 1
                left[s] = 1.0
                continue
            took = t - comes[cursor[s]]
            place = min(max(int(np.log(max(took, 1e-3) / 1e-3) * 1000.0), 0), latency.shape[1] - 1)
            latency[high[s], place] += 1
            done[high[s]] += 1
            cursor[s] += 1
            phase[s] = -1
    return energy


def bin_seconds(place: float) -> float:
    """The latency in the middle of a bin."""
    return float(1e-3 * np.exp((place + 0.5) / 1000.0))
