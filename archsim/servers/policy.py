"""Policies that set clocks by the power of the row. One is a class with ``wanted``; a new one is a few lines."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from archsim.servers.spec import PolicySpec


class Clocks(NamedTuple):
    """Clocks of servers of low and of high priority, Hz; 0 is the chip's own."""

    low: int = 0
    high: int = 0


class Policy(Protocol):
    """Watches the row."""

    def wanted(self, power: float, now: Clocks) -> Clocks:
        """The clocks at a reading, a share of the row's limit; ``now`` are those that were asked for last."""


class NoPolicy:
    """The brake alone."""

    def wanted(self, power: float, now: Clocks) -> Clocks:
        """Always full clocks."""
        return Clocks()


class OneThreshold:
    """All servers are slowed down above a threshold, and let go below it."""

    def __init__(self, spec: PolicySpec) -> None:
        self.high, self.back, self.clock = spec.high or 1.0, spec.back, spec.lower_clock or 0

    def wanted(self, power: float, now: Clocks) -> Clocks:
        """As the threshold says."""
        if power > self.high:
            return Clocks(self.clock, self.clock)
        return Clocks() if power < self.high - self.back else now


class TwoThresholds:
    """POLCA (ASPLOS 2024): low priority first, more of it above the second threshold, and then high priority."""

    def __init__(self, spec: PolicySpec) -> None:
        self.low, self.high, self.back = spec.low or 1.0, spec.high or 1.0, spec.back
        self.low_clock, self.lower_clock = spec.low_clock or 0, spec.lower_clock or 0
        self.high_clock = spec.high_clock or 0

    def wanted(self, power: float, now: Clocks) -> Clocks:
        """A step further for each reading above the second threshold; back below each threshold less a margin."""
        if power > self.high:
            return Clocks(self.lower_clock, self.high_clock if now.low == self.lower_clock else now.high)
        low, high = now
        if power < self.high - self.back:
            high = 0
            low = self.low_clock if low == self.lower_clock else low
        if power < self.low - self.back:
            low = 0
        elif power > self.low and low == 0:
            low = self.low_clock
        return Clocks(low, high)


def policy_of(spec: PolicySpec) -> Policy:
    """The policy that a description means."""
    if spec.kind == "none":
        return NoPolicy()
    return OneThreshold(spec) if spec.kind == "one_threshold" else TwoThresholds(spec)


def clocks_of(spec: PolicySpec) -> list[int]:
    """Clocks that a policy sets."""
    return [clock for clock in (spec.low_clock, spec.lower_clock, spec.high_clock) if clock is not None]
