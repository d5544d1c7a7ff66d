"""Near-memory update: the memory adds an arriving partial sum to the one it holds, in the banks.

An update is an op-and-store of uncached memory: it crosses the memory interface once, as a write, and
nothing is read back. T3 (ASPLOS 2024, section 4.3) puts the adders beside the banks and lets an update
occupy its bank group for twice the time of a write (CCDWL = 2 CCDL). HBM2 has four bank groups and CCDL =
2 CCDS, so updates that are spread over the groups still flow at full bandwidth: an update costs the
interface as much as a write.
"""

from __future__ import annotations

from typing import NamedTuple

from archsim.workloads.dims import Dim


class Traffic(NamedTuple):
    """Bytes over one rank's memory interface."""

    reads: Dim
    writes: Dim


def ring_reduce_scatter(ranks: int, chunk: Dim) -> Traffic:
    """Traffic of a ring reduce-scatter by the compute units, of ``ranks`` chunks of ``chunk`` bytes.

    The first send reads the own chunk; each of the d - 2 later sends, and the final sum, reads the received
    partial and the own. d - 1 received partials and the final sum are written.
    """
    return Traffic((2 * ranks - 1) * chunk, ranks * chunk)


def ring_all_gather(ranks: int, chunk: Dim) -> Traffic:
    """Traffic of a ring all-gather: a chunk is read for each of d - 1 sends, and as many that arrive are written."""
    return Traffic((ranks - 1) * chunk, (ranks - 1) * chunk)
