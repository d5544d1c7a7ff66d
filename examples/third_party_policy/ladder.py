"""A ladder of clocks: low priority goes a step down while the row is above a level, and a step up while it is below."""

from collections.abc import Mapping, Sequence

from archsim.servers.policy import Clocks, Policy, PolicySpec, Reading
from archsim.spec import Share
from archsim.units import Hertz


class LadderSpec(PolicySpec):
    """What a description of it may hold."""

    level: Share
    """of the row's limit, above which a step down is asked for"""
    steps: tuple[Hertz, ...]
    """clocks below the chip's own, from the highest on"""

    @property
    def clocks(self) -> Sequence[int]:
        return self.steps

    @property
    def thresholds(self) -> Mapping[str, float]:
        return {"level": self.level}


class Ladder(Policy):
    """A step for each command: the next one waits until the one before is set."""

    Spec = LadderSpec

    def wanted(self, reading: Reading) -> Clocks:
        rungs = (0, *self.spec.steps)
        place = rungs.index(reading.asked.low)
        if reading.now != reading.asked:
            return reading.asked
        if reading.power > self.spec.level:
            place = min(place + 1, len(rungs) - 1)
        elif reading.power < self.spec.level - self.spec.back:
            place = max(place - 1, 0)
        return Clocks(low=rungs[place])
