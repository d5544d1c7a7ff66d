"""Times between the commands of a processing-in-memory channel, and what its command stream is made of.

The commands are those of SK hynix AiM: WRGB fills the channel's global buffer, WRMAC sets the accumulators of
all banks, MAC multiplies one column of every bank's open row with one column of the buffer, RDMAC reads the
accumulators, ACT and PRE open and close a row of all banks, TMOD changes between register and MAC mode, REF
refreshes all banks.
"""

from __future__ import annotations

from typing import NamedTuple

from pydantic import model_validator

from archsim.spec import Count, Field, Spec


class PimTiming(Spec):
    """Least cycles of the channel's clock from one command to another; names in brackets are AiM's."""

    act_to_mac: Count
    """ACT to the first MAC of the row (nRCDRDMAC)"""
    mac_to_mac: Count
    """MAC to MAC (nCCDL)"""
    mac_to_pre: Count
    """MAC to PRE (nRTP)"""
    act_to_pre: Count
    """ACT to PRE (nRAS)"""
    pre_to_act: Count
    """PRE to ACT or REF (nRP)"""
    act_to_act: Count
    """ACT to ACT (nRC)"""
    write_to_write: Count
    """WRGB or WRMAC to the next of them (nBL, nCCDS)"""
    read_to_write: Count
    """RDMAC to WRGB or WRMAC: bus turnaround (nCLREG + nBL + 3 - nCWLGB + nWPRE)"""
    read_to_read: Count = 1
    """RDMAC to RDMAC: the host asks again when it has its data (nCLREG + nBL + 1)"""
    write_to_read: int = Field(default=0, ge=0)
    """WRMAC to RDMAC with no MAC between (nCWLREG + nBL + nWTRL)"""
    buffer_to_read: int = Field(default=0, ge=0)
    """WRGB to RDMAC with no MAC between (nCWLGB + nBL + nWTRS)"""
    mac_to_read: Count
    """MAC to RDMAC (nCCDL)"""
    read_latency: Count
    """RDMAC to the end of its data (nCLREG + nBL)"""
    mode_change: int = Field(default=0, ge=0)
    """TMOD to any command (nMODCH); 0 when this device has no modes"""
    refresh_interval: Count
    """REF due every so many cycles (nREFI)"""
    refresh_cycle: Count
    """REF to ACT or REF (nRFC)"""

    @model_validator(mode="after")
    def _turnaround_is_hidden(self) -> PimTiming:
        # Tiles have MACs between, whose two changes of mode hide it: only instruction traces can meet it.
        if max(self.write_to_read, self.buffer_to_read) > 2 * self.mode_change:
            raise ValueError("'write_to_read' and 'buffer_to_read' are at most twice 'mode_change'")
        return self


class Segment(NamedTuple):
    """A stretch of a channel's work: fill the buffer, then tile after tile.

    A tile sets the accumulators, multiplies ``columns`` columns, and reads the accumulators. Tile i (counted
    without repeats) lies at linear column ``base + (i // per_row) * span + (i % per_row) * columns`` of the
    banks; a DRAM row holds a fixed number of columns, so this says which rows it needs.

    Attributes
    ----------
    loads: columns written to the buffer first.
    tiles: tiles of different data.
    repeats: how often each tile is computed in turn, with another part of the buffer.
    """

    loads: int
    tiles: int
    repeats: int
    columns: int
    base: int
    per_row: int
    span: int


class Counts(NamedTuple):
    """What a channel did. Activations and MACs are all-bank commands."""

    cycles: int
    activates: int
    macs: int
    buffer_writes: int
    accumulator_writes: int
    accumulator_reads: int
    mode_changes: int
    refreshes: int
