"""The AiM simulator's cycles (SK hynix AiM model on Ramulator 2, commit 0f28a07b), from our own counts.

Its clock counts from 1, and it sees the end of a trace a cycle after the last command has completed; when
that was a read, the end of trace waits one cycle more behind it. It never refreshes.
"""

from __future__ import annotations

from archsim.components.pim.pim_timing import Counts


def cycles(counts: Counts) -> int:
    """What the AiM simulator prints for a trace with these counts, scheduled without refresh."""
    return counts.cycles + (3 if counts.accumulator_reads else 2)
