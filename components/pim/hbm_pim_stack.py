"""Stacks of Samsung's HBM-PIM as an engine: products with vectors where the weights lie.

Time is that of :mod:`archsim.components.pim.hbm_pim`, command by command, for each product by itself: change to
all-bank mode, program, product, and back. Refresh goes by the clock on the wall and not by op: an op of c cycles takes
c * interval / (interval - stall) in the mean. The KV cache lies for its host to read, so attention is the host's.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import ClassVar, Literal

from archsim.components.pim import hbm_pim
from archsim.components.pim.command_scheduler import Command
from archsim.errors import InputError
from archsim.model.component import Engine, Work
from archsim.model.technology import Technology
from archsim.spec import ComponentSpec, Count
from archsim.units import Joules, SquareMillimetres, Watts
from archsim.workloads.op import DType, MatMul, Op, Role

_MACS = 16  # of a block, one column of FP16 at a time


class HbmPimSpec(ComponentSpec):
    """All channels of the stacks."""

    kind: Literal["hbm_pim"] = "hbm_pim"
    channels: Count = hbm_pim.CHANNELS
    """channels that play the same commands"""
    refresh: bool = True
    """whether refreshes take time"""
    max_rows: Count = 16
    """most vectors of one product that are taken here, one after another"""
    energy_activate: Joules | None = None
    """ACT and PRE of one bank; the technology entry pim_activate when absent"""
    energy_mac_column: Joules | None = None
    """one column read and multiplied in one bank; the technology entry pim_mac_column when absent"""
    energy_buffer_write: Joules | None = None
    """one column of the vector to the registers of a channel; the technology entry pim_buffer_write when absent"""
    energy_result_write: Joules | None = None
    """one column from the registers of a block to its bank; the technology entry pim_result_write when absent"""
    energy_refresh: Joules | None = None
    """one all-bank refresh of a channel; the technology entry pim_refresh when absent"""
    standby: Watts | None = None
    """power of an idle channel without refresh; the technology entry pim_channel when absent"""
    area: SquareMillimetres | None = None
    """area of one channel; the technology entry pim_channel when absent"""


class HbmPim(Engine[HbmPimSpec]):
    """The model of :class:`HbmPimSpec`."""

    kind: ClassVar[str] = "hbm_pim"
    Spec: ClassVar[type[ComponentSpec]] = HbmPimSpec

    def dtypes(self) -> tuple[DType, ...]:
        return (DType.FP16,)

    def resident_roles(self) -> frozenset[Role]:
        return frozenset({Role.WEIGHT})

    def supports(self, op: Op) -> bool:
        """Products of few vectors with weights in FP16, of one size in all steps."""
        if not isinstance(op, MatMul) or op.right is not Role.WEIGHT or op.right_dtype is not DType.FP16:
            return False
        return all(isinstance(size, int) for size in (op.m, op.k, op.n)) and int(op.m) <= self.spec.max_rows

    def work(self, op: Op) -> Work:
        """Cycles of a channel, actions of all."""
        if not isinstance(op, MatMul) or not self.supports(op):
            raise InputError(f"{self.path}: an hbm_pim does not compute the {op.kind} '{op.name}'")
        spec, vectors = self.spec, op.groups * int(op.m)
        cycles, actions = _product(int(op.n), int(op.k), spec.channels)
        return Work(
            cycles=self.with_refresh(vectors * cycles),
            actions={name: vectors * spec.channels * count for name, count in actions.items()},
            useful=op.macs(),
            detail={"peak": spec.channels * hbm_pim.BLOCKS * _MACS / hbm_pim.HBM2.tCCDL},
        )

    def with_refresh(self, cycles: int) -> int:
        """``cycles`` of work with the refreshes that meet them in the mean; unchanged when refresh is off."""
        if not self.spec.refresh:
            return cycles
        t = hbm_pim.HBM2
        return -(-cycles * t.tREFI // (t.tREFI - t.tRP - t.tRFC - t.tRCDRD))

    def energy_per_action(self, technology: Technology) -> Mapping[str, float]:
        names = ("activate", "mac_column", "buffer_write", "result_write")
        return {name: self._energy(name, technology) for name in names}

    def _energy(self, name: str, technology: Technology) -> float:
        own: float | None = getattr(self.spec, f"energy_{name}")
        return technology.energy_j(f"pim_{name}") if own is None else own

    def leakage_w(self, technology: Technology) -> float:
        """Standby and refresh power of all channels, W."""
        idle = technology.leakage_w("pim_channel") if self.spec.standby is None else self.spec.standby
        refreshes_per_s = self.clock_hz / hbm_pim.HBM2.tREFI if self.spec.refresh else 0.0
        refreshing = refreshes_per_s * self._energy("refresh", technology) if refreshes_per_s else 0.0
        return self.spec.channels * (idle + refreshing)

    def area_mm2(self, technology: Technology) -> Mapping[str, float]:
        one = technology.area_mm2("pim_channel") if self.spec.area is None else self.spec.area
        return {"channels": self.spec.channels * one}


@functools.cache
def _product(outputs: int, inputs: int, channels: int) -> tuple[int, dict[str, int]]:
    """Cycles and actions of one channel for a matrix and a vector, without refresh."""
    log: list[Command] = []
    cycles = hbm_pim.gemv(outputs, inputs, refresh=False, log=log, channels=channels).cycles
    # Commands to rows of data work on the banks of all blocks; those to the rows of registers and modes on none.
    data = [command for command in log if command.row in hbm_pim.DATA_ROWS]
    count = {name: hbm_pim.BLOCKS * sum(command.name == name for command in data) for name in ("ACT", "RD", "WR")}
    return cycles, {
        "activate": count["ACT"],
        "mac_column": count["RD"],
        "buffer_write": sum(command.name == "WR" and command.row == hbm_pim.REGISTER_ROW for command in log),
        "result_write": count["WR"],
    }
