"""Policies that set clocks by the power of the row. One is a class of a few lines, found through the registry.

A package adds one with a line of its pyproject.toml, under ``archsim.row_policies``. Its ``Spec``, a
:class:`PolicySpec`, says what a description of it may hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, SerializeAsAny, model_validator

from archsim import registry
from archsim.spec import ANY_KIND, Share, Spec, of_kind
from archsim.units import Hertz, Watts

GROUP = "archsim.row_policies"
Margin = Annotated[float, Field(ge=0, lt=1)]
"""How far below a threshold clocks are given back."""


class PolicySpec(Spec):
    """What all policies say. Thresholds are shares of the row's limit."""

    kind: str
    """which policy this is, such as two_thresholds"""
    back: Margin = 0.05
    """how far below a threshold clocks are given back, and below the highest the brake is let go"""

    group: ClassVar[str] = GROUP

    @property
    def clocks(self) -> Sequence[int]:
        """Clocks that it may set, Hz."""
        return ()

    @property
    def thresholds(self) -> Mapping[str, float]:
        """What it watches for, by name, from the lowest on."""
        return {}

    @model_validator(mode="after")
    def _below_the_limit(self) -> Self:
        for name, value in self.thresholds.items():
            if value >= 1:
                raise ValueError(f"'{name}' ({value}) must lie below the limit, at which the brake is pulled")
        return self


class Clocks(NamedTuple):
    """Clocks of servers of low and of high priority, Hz; 0 is the chip's own."""

    low: int = 0
    high: int = 0


class Reading(NamedTuple):
    """What a policy sees.

    Attributes
    ----------
    power: mean since the reading before, a share of the row's limit. asked: clocks that were asked for last. now: those
    that are set: a command takes its time.
    """

    power: float
    asked: Clocks
    now: Clocks


@dataclass(frozen=True)
class Choices:
    """A phase at all clocks, the chip's own first; arrays [clocks].

    Attributes
    ----------
    clocks_hz: 0 for the chip's own. seconds: of the phase. watts: of an accelerator meanwhile.
    """

    clocks_hz: Sequence[int]
    seconds: npt.NDArray[np.float64]
    watts: npt.NDArray[np.float64]


class Policy:
    """Watches the row and commands clocks out of band; may also say what each GPU does of itself, in band.

    This one does neither: the brake is alone (``kind: none``).

    Parameters
    ----------
    spec: of the class's ``Spec``.
    """

    Spec: ClassVar[type[PolicySpec]] = PolicySpec

    def __init__(self, spec: Any) -> None:
        self.spec = spec

    def wanted(self, reading: Reading) -> Clocks:
        """The clocks at a reading; those of the chip, if not said otherwise."""
        return Clocks()

    def governed(self, of: Choices, allowed: int) -> int:
        """The clock that a GPU takes in a phase where ``allowed`` is set, both as numbers of clocks; that one."""
        return allowed


class OneThresholdSpec(PolicySpec):
    """Servers are slowed down above a threshold, and let go below it."""

    high: Share
    """above it they are slowed down"""
    lower_clock: Hertz
    """of what is slowed down"""
    low_alone: bool = False
    """whether servers of high priority are left alone"""

    @property
    def clocks(self) -> Sequence[int]:
        return (self.lower_clock,)

    @property
    def thresholds(self) -> Mapping[str, float]:
        return {"high": self.high}


class OneThreshold(Policy):
    """All servers, or those of low priority, are slowed down above a threshold, and let go below it."""

    Spec = OneThresholdSpec

    def wanted(self, reading: Reading) -> Clocks:
        """As the threshold says."""
        spec: OneThresholdSpec = self.spec
        if reading.power > spec.high:
            return Clocks(spec.lower_clock, 0 if spec.low_alone else spec.lower_clock)
        return Clocks() if reading.power < spec.high - spec.back else reading.asked


class TwoThresholdsSpec(PolicySpec):
    """POLCA's thresholds and clocks."""

    low: Share
    """above it, servers of low priority are slowed down"""
    high: Share
    """above it, those of low priority more, and then those of high priority"""
    low_clock: Hertz
    """of servers of low priority above ``low``"""
    lower_clock: Hertz
    """of servers of low priority above ``high``"""
    high_clock: Hertz
    """of servers of high priority above ``high``"""

    @model_validator(mode="after")
    def _check(self) -> TwoThresholdsSpec:
        if self.low >= self.high:
            raise ValueError(f"'low' ({self.low}) must lie below 'high' ({self.high})")
        return self

    @property
    def clocks(self) -> Sequence[int]:
        return self.low_clock, self.lower_clock, self.high_clock

    @property
    def thresholds(self) -> Mapping[str, float]:
        return {"low": self.low, "high": self.high}


class TwoThresholds(Policy):
    """POLCA (ASPLOS 2024): low priority first, more of it above the second threshold, and then high priority."""

    Spec = TwoThresholdsSpec

    def wanted(self, reading: Reading) -> Clocks:
        """A step further where the one before is set and did not help; back below each threshold less a margin."""
        spec: TwoThresholdsSpec = self.spec
        (low, high), power = reading.asked, reading.power
        if power > spec.high:
            return Clocks(spec.lower_clock, spec.high_clock if reading.now.low == spec.lower_clock else high)
        if power < spec.high - spec.back:
            high = 0
            low = spec.low_clock if low == spec.lower_clock else low
        if power < spec.low - spec.back:
            low = 0
        elif power > spec.low and low == 0:
            low = spec.low_clock
        return Clocks(low, high)


class GpuDvfsSpec(PolicySpec):
    """Each GPU scales its own clock and voltage."""

    cap: Watts
    """power that an accelerator keeps below, where one of the clocks does"""
    steps: Annotated[tuple[Hertz, ...], Field(min_length=1)]
    """clocks below the chip's own"""

    @property
    def clocks(self) -> Sequence[int]:
        return self.steps


class GpuDvfs(Policy):
    """DVFS by each GPU, phase by phase, at once and without a look at the row: the fastest clock below a cap."""

    Spec = GpuDvfsSpec

    def governed(self, of: Choices, allowed: int) -> int:
        """The fastest that draws no more than the cap; the one that draws least where none does."""
        spec: GpuDvfsSpec = self.spec
        slower = of.seconds >= of.seconds[allowed]
        mine = [i for i, hz in enumerate(of.clocks_hz) if i == allowed or (slower[i] and hz in (0, *spec.steps))]
        below = [i for i in mine if of.watts[i] <= spec.cap]
        if below:
            return min(below, key=lambda i: float(of.seconds[i]))
        return min(mine, key=lambda i: float(of.watts[i]))


def policy_of(spec: PolicySpec) -> Policy:
    """The policy that a description means."""
    policy: Policy = registry.find(GROUP, spec.kind)(spec)
    return policy


AnyPolicy = Annotated[SerializeAsAny[PolicySpec], of_kind(GROUP), ANY_KIND]
"""A policy of any registered kind."""
