"""What a kernel of a GPU library draws: energy by activity, on top of the idle board, under the power cap.

A kernel spends energy on its FLOPs, on bytes that stream through the L2, on bytes of the memory, and on being awake:
clocks and buses of the whole chip run for as long as it does. A FLOP of a tensor instruction has its operands' way from
the L2, shared memory and registers in it: tiles reuse them alike. A clock that drops takes the voltage along: energy on
the die goes with its square, power with its cube, as the kernels' times assume. What would still lie over the cap is
saved by the die: its power is what the cap leaves.

Energies belong to an architecture's libraries and scale with the process; idle power comes from the chip's config.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from archsim.components.compute.gpu_chip import Floats, GpuChip
from archsim.spec import Share, Spec

NotNegative = Annotated[float, Field(ge=0)]


class PowerSpec(Spec):
    """Energies of the die in the process of the table's 1, at full clock, and of the memory."""

    clock_share: Share
    """of the power cap that the chip draws at full clock while kernels follow each other; none without a cap"""
    operand_share: Share = 0.22
    """of a FLOP's energy: its instruction and its operands' way through registers and shared memory, beside arithmetic;
    of half-precision matrix instructions, Dally, Hot Chips 2023"""
    cache_byte_pj: NotNegative
    """per byte that streams between the L2 and the SMs"""
    memory_byte_pj: NotNegative
    """per byte of the memory, its device, PHY and controller"""
    attention_flop_share: NotNegative
    """energy of a FLOP of attention, its softmax included, beside one of a GEMM: scores stay in registers"""
    attention_element_pj: NotNegative
    """per element of keys and values that attention brings to the tensor cores, whatever its format"""
    expert_flop_share: dict[str, NotNegative]
    """energy of a FLOP of experts beside one of a GEMM of the format: other kernels, more padding; by format"""


@dataclass(frozen=True)
class Activity:
    """What kernels do; arrays [kernels].

    Attributes
    ----------
    flop_j: energy of their FLOPs at full clock, J. cache_bytes: streamed through the L2. memory_bytes: of the memory.
    slowdown: of the clock under the power cap, at least 1.
    """

    flop_j: Floats
    cache_bytes: Floats
    memory_bytes: Floats
    slowdown: Floats | float = 1.0


def joined(parts: Sequence[Activity]) -> Activity:
    """Kernels at full clock, one after the other."""
    return Activity(
        *(np.concatenate([getattr(p, f) for p in parts]) for f in ("flop_j", "cache_bytes", "memory_bytes"))
    )


@dataclass(frozen=True)
class Energy:
    """Energy of kernels, J, [kernels]: idle board, arithmetic, registers and the SMs' clocks, L2, memory."""

    idle_j: Floats
    arithmetic_j: Floats
    registers_j: Floats
    cache_j: Floats
    memory_j: Floats

    @property
    def total_j(self) -> Floats:
        """Of the board."""
        return self.idle_j + self.arithmetic_j + self.registers_j + self.cache_j + self.memory_j


def energy(chip: GpuChip, spec: PowerSpec, process_energy: float, done: Activity, seconds: Floats) -> Energy:
    """Energy of kernels that take ``seconds`` each.

    Parameters
    ----------
    process_energy: of the chip's process at its voltage, relative.
    """
    die = 1.0 / done.slowdown**2
    awake_j = spec.clock_share * (chip.power_cap_w or 0.0) * chip.voltage**3 / done.slowdown * seconds
    arithmetic_j = die * (1.0 - spec.operand_share) * done.flop_j
    registers_j = die * (spec.operand_share * done.flop_j + awake_j)
    cache_j = die * process_energy * 1e-12 * spec.cache_byte_pj * done.cache_bytes
    memory_j = 1e-12 * spec.memory_byte_pj * done.memory_bytes
    idle_j = chip.idle_w * seconds
    if chip.power_cap_w is not None:
        left_j = np.maximum(0.0, chip.power_cap_w * seconds - idle_j - memory_j)
        share = np.minimum(1.0, left_j / (arithmetic_j + registers_j + cache_j))
        arithmetic_j, registers_j, cache_j = arithmetic_j * share, registers_j * share, cache_j * share
    return Energy(idle_j, arithmetic_j, registers_j, cache_j, memory_j)
