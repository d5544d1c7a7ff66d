"""What a kernel of a GPU library sees of a chip, and what all its kernel models share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from archsim.errors import InputError, nearest

Floats = npt.NDArray[np.float64]

Instruction = Literal["mma", "wgmma", "tcgen05", "mfma"]
"""How tensor cores are fed: per warp from registers (to Ada), per warpgroup from shared memory (Hopper), per pair of
SMs from tensor memory (Blackwell), per wavefront (AMD)."""


@dataclass(frozen=True)
class GpuChip:
    """A chip as its data sheet gives it.

    Attributes
    ----------
    macs_per_cycle: dense, of one SM, by operand format. process: key of the energy table.
    power_cap_w: power at which the clock drops; None: never. idle_w: power of the board at rest. voltage: of the die,
    beside that at full clock: below 1 where the clock is locked below it. Energy on the die goes with its square.
    activity: energy of its operands' bits beside that of random ones.
    """

    sms: int
    clock_hz: int
    macs_per_cycle: Mapping[str, int]
    memory_bytes_per_s: float
    l2_bytes: int
    instruction: Instruction
    process: str
    power_cap_w: float | None
    idle_w: float = 0.0
    voltage: float = 1.0
    activity: float = 1.0

    def check(self, dtype: str) -> None:
        """Whether its tensor cores multiply this format, told apart from others of its width.

        Raises
        ------
        InputError: they do not.
        """
        if dtype not in self.macs_per_cycle:
            raise InputError(f"this chip does not multiply {dtype}: it has {', '.join(self.macs_per_cycle)}")

    def rate(self, dtype: str) -> int:
        """Multiply-accumulates per cycle of one SM; chips before bf16 take fp16 for it.

        Raises
        ------
        InputError: its tensor cores do not multiply this format.
        """
        if dtype == "bf16" and dtype not in self.macs_per_cycle:
            dtype = "fp16"
        self.check(dtype)
        return self.macs_per_cycle[dtype]


def of_instruction(table: Mapping[str, float], chip: GpuChip, what: str) -> float:
    """The entry for the chip's tensor instruction.

    Raises
    ------
    InputError: there is none.
    """
    if chip.instruction not in table:
        raise InputError(f"'{what}' has no entry for '{chip.instruction}': {nearest(chip.instruction, table)}")
    return table[chip.instruction]


def columns(*sizes: Any) -> tuple[Floats, ...]:
    """Sizes as float arrays of one shape, at least one-dimensional."""
    arrays = (np.atleast_1d(np.asarray(size, dtype=np.float64)) for size in sizes)
    return tuple(np.broadcast_arrays(*arrays))


def overlapped(first: Floats, second: Floats, exponent: float) -> Floats:
    """Time of two activities that overlap imperfectly: their p-norm; 1 is one after the other, infinity perfect."""
    total: Floats = (first**exponent + second**exponent) ** (1.0 / exponent)
    return total


def waves(work: Floats, whole_share: float) -> Floats:
    """Waves that ``work`` units per SM take; ``whole_share`` of them come whole, the rest is spread evenly."""
    return whole_share * np.ceil(work) + (1.0 - whole_share) * np.maximum(1.0, work)
