"""Channels of DRAM with a multiplier at each bank: products with vectors where weights and KV cache lie.

The host (an ASIC) sends vectors to the channels' global buffers, all banks multiply at once, and the host
reads the sums, adds those of chunks, and computes everything else, softmax among it. Cycles are exact for
the command stream of :mod:`archsim.components.pim.command_scheduler` without refresh.

Refresh, which goes by the clock on the wall and not by op, is charged in the mean: an op of c cycles takes
c * interval / (interval - stall), with the stall of a refresh that hits an open row.

What is left out: data transfers that share the channel with products (the host's reads and writes of plain
data), and power-down.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import model_validator

from archsim.components.pim.mapping import Banks, Share, concatenated_heads, fits_concatenated, products
from archsim.components.pim.pim_timing import Counts, PimTiming
from archsim.errors import InputError
from archsim.model.component import Engine, Work
from archsim.model.technology import Technology
from archsim.spec import ComponentSpec, Count
from archsim.timebase import Timebase
from archsim.units import Bytes, Joules, SquareMillimetres, Watts
from archsim.workloads.dims import Dim, ceil_div, lanes
from archsim.workloads.op import Attention, DType, MatMul, Op, Role

_ACTIONS = ("activate", "mac_column", "buffer_write", "accumulator_write", "accumulator_read")


class PimChannelSpec(ComponentSpec):
    """Equal PIM channels of a system."""

    kind: Literal["pim_channel"] = "pim_channel"
    channels: Count
    """channels that work side by side"""
    banks: Count
    """banks of a channel, each with a MAC unit"""
    mac_width: Count
    """elements that a MAC unit multiplies at once: one column access"""
    dtype: DType
    """number format of weights, vectors and KV cache"""
    row: Bytes
    """bytes of an open row of one bank"""
    buffer: Bytes
    """bytes of a channel's global buffer, which holds the vector"""
    capacity: Bytes
    """bytes of one channel"""
    timing: PimTiming
    """least cycles between commands"""
    layout: Literal["dense", "aligned"] = "dense"
    """dense: weights fill rows to their end; aligned: each tile begins a row"""
    refresh: bool = True
    """whether refreshes take time"""
    max_rows: Count = 16
    """most vectors of one product that are taken here, one after another"""
    energy_activate: Joules | None = None
    """ACT and PRE of one bank; the technology entry pim_activate when absent"""
    energy_mac_column: Joules | None = None
    """one column read and multiplied in one bank; the technology entry pim_mac_column when absent"""
    energy_buffer_write: Joules | None = None
    """WRGB of one column, pins included; the technology entry pim_buffer_write when absent"""
    energy_accumulator_write: Joules | None = None
    """WRMAC of all banks, pins included; the technology entry pim_accumulator_write when absent"""
    energy_accumulator_read: Joules | None = None
    """RDMAC of all banks, pins included; the technology entry pim_accumulator_read when absent"""
    energy_refresh: Joules | None = None
    """one all-bank refresh of a channel; the technology entry pim_refresh when absent"""
    standby: Watts | None = None
    """power of an idle channel without refresh; the technology entry pim_channel when absent"""
    area: SquareMillimetres | None = None
    """area of one channel; the technology entry pim_channel when absent"""

    @model_validator(mode="after")
    def _whole_columns(self) -> PimChannelSpec:
        column = self.mac_width * self.dtype.bits
        for name, size in (("row", self.row), ("buffer", self.buffer)):
            if size * 8 < column or size * 8 % column:
                raise ValueError(f"'{name}' of {size} B is no whole number of columns of {column} bits")
        return self


class PimChannel(Engine[PimChannelSpec]):
    """All PIM channels of a system, as one engine for matrix-vector products."""

    kind: ClassVar[str] = "pim_channel"
    Spec: ClassVar[type[ComponentSpec]] = PimChannelSpec

    def __init__(self, spec: PimChannelSpec, path: str, time: Timebase, clock_hz: int) -> None:
        super().__init__(spec, path, time, clock_hz)
        column_bits = spec.mac_width * spec.dtype.bits
        self.banks = Banks(
            spec.channels,
            spec.banks,
            spec.mac_width,
            spec.row * 8 // column_bits,
            spec.buffer * 8 // column_bits,
        )
        self._products = functools.lru_cache(maxsize=65536)(self._products_work)
        self._attention = functools.lru_cache(maxsize=65536)(self._attention_work)

    @property
    def capacity_bytes(self) -> int:
        """Bytes of all channels."""
        return self.spec.channels * self.spec.capacity

    def peak_macs_per_cycle(self) -> float:
        """Multiply-accumulates per cycle with all rows open."""
        return self.spec.channels * self.spec.banks * self.spec.mac_width / self.spec.timing.mac_to_mac

    def dtypes(self) -> tuple[DType, ...]:
        return (self.spec.dtype,)

    def resident_roles(self) -> frozenset[Role]:
        return frozenset({Role.WEIGHT, Role.KV})  # they are multiplied in the banks that hold them

    def supports(self, op: Op) -> bool:
        """Matrix-vector products of weights or KV cache, and attention of one query position."""
        bits = self.spec.dtype.bits
        if isinstance(op, MatMul):
            few = int(np.max(op.m)) <= self.spec.max_rows
            return few and op.right in (Role.WEIGHT, Role.KV) and op.right_dtype.bits == bits
        if isinstance(op, Attention):
            # Latent attention reads its value out of the key, which lies the wrong way for the second
            # product.
            return op.q_len == 1 and not op.kv_shared and op.kv_dtype.bits == bits
        return False

    def work(self, op: Op) -> Work:
        """Cycles, actions and row hits of an op, over all channels."""
        if not self.supports(op):
            raise InputError(f"{self.path}: a pim_channel does not compute the {op.kind} '{op.name}'")
        if isinstance(op, MatMul):
            work = _collect(lambda m, k, n: self._products(op.groups, m, k, n), op.macs(), op.m, op.k, op.n)
            work.detail["peak"] = self.peak_macs_per_cycle()
            return work
        if isinstance(op, Attention):
            queries = op.heads // op.kv_heads
            batch = op.batch if op.ragged is None else op.ragged.sequences
            work = _collect(
                lambda batch, keys: self._attention(batch, op.kv_heads, queries, op.head_dim, op.v_head_dim, keys),
                op.macs(),
                batch,
                # Time grows evenly with the keys, column by column: sequences of different lengths count as the mean.
                op.span(op.q_len, op.kv_len) if op.ragged is None else ceil_div(op.keys(), batch),
            )
            work.detail["peak"] = self.peak_macs_per_cycle()
            work.detail["softmax_elements"] = op.softmax_elements()
            return work
        raise InputError(f"{self.path}: a pim_channel does not compute the {op.kind} '{op.name}'")

    def _products_work(self, groups: int, m: int, k: int, n: int) -> dict[str, int]:
        layout = self.spec.layout
        shapes = [products(self.banks, groups, m, k, n, layout, split=split) for split in sorted({False, groups > 1})]
        added = groups * m * n * (sum(1 for _ in self.banks.chunks(k)) - 1)
        return {
            **min((self._play(shape) for shape in shapes), key=lambda a: a["cycles"]),
            "partial_sums": max(added, 0),
        }

    def _attention_work(
        self, batch: int, heads: int, queries: int, head_dim: int, v_dim: int, keys: int
    ) -> dict[str, int]:
        """Scores from keys stored token by token, then values stored dimension by dimension."""
        groups = batch * heads
        scores = [
            products(self.banks, groups, queries, head_dim, keys, "aligned", split=split) for split in (False, True)
        ]
        if fits_concatenated(self.banks, queries, head_dim):
            scores.append(concatenated_heads(self.banks, batch, heads, queries, head_dim, keys))
        values = [products(self.banks, groups, queries, keys, v_dim, "aligned", split=split) for split in (False, True)]
        first = min((self._play(shape) for shape in scores), key=lambda a: a["cycles"])
        second = min((self._play(shape) for shape in values), key=lambda a: a["cycles"])
        added = groups * queries * v_dim * (sum(1 for _ in self.banks.chunks(keys)) - 1)
        return {name: first[name] + second[name] for name in first} | {"partial_sums": max(added, 0)}

    def _play(self, shares: list[Share]) -> dict[str, int]:
        """Cycles of the slowest channel, counts of all."""
        from archsim.components.pim.stream_kernel import stream  # numba only when something is computed

        answer = dict.fromkeys(("cycles", *_ACTIONS, "activate_commands", "mac_commands", "mode_changes"), 0)
        for share in shares:
            did = stream(share.segments, self.spec.timing, self.banks.row_columns, refresh=False)
            answer["cycles"] = max(answer["cycles"], did.cycles)
            for name, count in self.actions(did).items():
                answer[name] += share.channels * count
        answer["cycles"] = self.with_refresh(answer["cycles"])
        return answer

    def actions(self, did: Counts) -> dict[str, int]:
        """Actions of one channel that did this."""
        return {
            "activate": self.spec.banks * did.activates,
            "mac_column": self.spec.banks * did.macs,
            "buffer_write": did.buffer_writes,
            "accumulator_write": did.accumulator_writes,
            "accumulator_read": did.accumulator_reads,
            "activate_commands": did.activates,
            "mac_commands": did.macs,
            "mode_changes": did.mode_changes,
        }

    def refresh_stall(self) -> int:
        """Cycles that a refresh costs a stream of MACs on an open row."""
        t = self.spec.timing
        return t.mac_to_pre + t.pre_to_act + t.refresh_cycle + t.act_to_mac - t.mac_to_mac

    def with_refresh(self, cycles: int) -> int:
        """``cycles`` of work with the refreshes that meet them in the mean; unchanged when refresh is off."""
        if not self.spec.refresh:
            return cycles
        interval, stall = self.spec.timing.refresh_interval, self.refresh_stall()
        if stall >= interval:
            raise InputError(f"{self.path}: a refresh stalls {stall} cycles and is due every {interval}")
        return -(-cycles * interval // (interval - stall))

    def energy_per_action(self, technology: Technology) -> Mapping[str, float]:
        return {name: self._energy(name, technology) for name in _ACTIONS}

    def _energy(self, name: str, technology: Technology) -> float:
        own: float | None = getattr(self.spec, f"energy_{name}")
        return technology.energy_j(f"pim_{name}") if own is None else own

    def leakage_w(self, technology: Technology) -> float:
        """Standby and refresh power of all channels, W: both go on whether there is work or not."""
        idle = technology.leakage_w("pim_channel") if self.spec.standby is None else self.spec.standby
        refreshes_per_s = self.clock_hz / self.spec.timing.refresh_interval if self.spec.refresh else 0.0
        refreshing = refreshes_per_s * self._energy("refresh", technology) if refreshes_per_s else 0.0
        return self.spec.channels * (idle + refreshing)

    def area_mm2(self, technology: Technology) -> Mapping[str, float]:
        one = technology.area_mm2("pim_channel") if self.spec.area is None else self.spec.area
        return {"channels": self.spec.channels * one}


def _collect(answer: Callable[..., dict[str, int]], useful: Dim, *sizes: Dim) -> Work:
    """Answer for every entry of the sizes, each distinct combination once."""
    grid = np.broadcast_arrays(*(np.asarray(size, dtype=np.int64) for size in sizes))
    shape = grid[0].shape
    answers = [answer(*(int(x) for x in entry)) for entry in zip(*(g.ravel() for g in grid), strict=True)]

    def column(name: str) -> Dim:
        values = [a[name] for a in answers]
        return lanes(values).reshape(shape) if shape else values[0]

    macs, activates = column("mac_commands"), column("activate_commands")
    hits: Any = 1.0 - activates / np.maximum(macs, 1)
    return Work(
        cycles=column("cycles"),
        actions={name: column(name) for name in _ACTIONS},
        useful=useful,
        detail={
            "row_hit_rate": hits,
            "partial_sums": column("partial_sums"),
            "mode_changes": column("mode_changes"),
        },
    )
