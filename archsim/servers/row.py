"""Plays a row of servers for weeks: arrivals of a day at a time, a reading of the meter at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from archsim.servers.kernel import advance, bin_seconds
from archsim.servers.phases import Phases
from archsim.servers.policy import Choices, Clocks, Policy, PolicySpec, Reading, policy_of
from archsim.servers.spec import RowSpec

Floats = npt.NDArray[np.float64]
_DAY_S = 86_400.0
WARM_S = 3600.0
"""In which a row fills, and which no figure of power is of."""
_BINS = 21_000
"""latencies up to 1,300,000 s"""
_GROUPS = ("low", "high")


@dataclass(frozen=True)
class Played:
    """What came of a policy.

    Attributes
    ----------
    power: [readings] of the row, a share of its limit, without the first hour, in which it fills. brakes: how often the
        brake was pulled. commands: to set clocks. latency_s: median by priority, low and high. done: requests by
        priority. slowed: share of readings with any clock set. energy_j: of the row, from the beginning to the end.
    """

    power: Floats
    brakes: int
    commands: int
    latency_s: tuple[float, float]
    done: tuple[int, int]
    slowed: float
    energy_j: float

    def rise(self, readings: int) -> float:
        """The largest rise within so many readings, one at least."""
        if self.power.size <= max(readings, 1):
            return 0.0
        return float(max((self.power[n:] - self.power[:-n]).max() for n in range(1, max(readings, 1) + 1)))


def clocks_hz(spec: RowSpec, policies: list[PolicySpec]) -> list[int]:
    """All clocks that may be set, the chip's own as 0 first."""
    set_by = [clock for policy in policies for clock in policy.clocks]
    return list(dict.fromkeys([0, *set_by, spec.brake_clock]))


def play(spec: RowSpec, policy: PolicySpec, of: Phases, clocks: list[int]) -> Played:
    """Play the row under a policy; the same arrivals for every policy."""
    watcher, number = policy_of(policy), {clock: i for i, clock in enumerate(clocks)}
    telemetry, command, brake = (ps / 1e12 for ps in (spec.telemetry, spec.command, spec.brake))
    limit_w = spec.provisioned * spec.rating
    servers = spec.servers
    high = (np.arange(servers) < round(servers * spec.high_priority)).astype(np.int64)
    seconds, watts = governed(watcher, of, clocks, spec.tensor_parallel)
    draws = [np.random.default_rng([spec.arrivals.seed, s]) for s in range(servers)]
    phase, left = np.full(servers, -1, np.int64), np.zeros(servers)
    cursor: npt.NDArray[np.int64] = np.zeros(servers, np.int64)
    latency, done = np.zeros((2, _BINS), np.int64), np.zeros(2, np.int64)
    set_now = np.zeros(servers, np.int64)
    waiting: list[tuple[Floats, npt.NDArray[np.int64]]] = [(np.empty(0), np.empty(0, np.int64))] * servers
    readings = int(spec.days * _DAY_S / telemetry)
    power = np.empty(readings)
    asked, is_set, braked = Clocks(), Clocks(), False
    calm = max(policy.thresholds.values(), default=1.0) - policy.back
    due: dict[int, tuple[float, int]] = {}
    brakes = commands = slowed = day = 0
    comes, kinds, upto = np.empty(0), np.empty(0, np.int64), np.zeros(servers, np.int64)
    brake_at = np.inf
    for reading in range(readings):
        now, until = reading * telemetry, (reading + 1) * telemetry
        if now >= day * _DAY_S:
            fresh = [_day(spec, of, draws[s], bool(high[s]), day) for s in range(servers)]
            waiting = [
                tuple(np.concatenate(pair) for pair in zip(_rest(comes, kinds, upto, cursor, s), fresh[s], strict=True))  # type: ignore[misc]
                for s in range(servers)
            ]
            comes = np.concatenate([one[0] for one in waiting])
            kinds = np.concatenate([one[1] for one in waiting])
            upto = np.cumsum(np.array([one[0].size for one in waiting], np.int64))
            cursor = upto - np.array([one[0].size for one in waiting])
            day += 1
        for group, (when, clock) in list(due.items()):
            if when <= now:
                set_now[high == group] = number[clock]
                is_set = is_set._replace(**{_GROUPS[group]: clock})
                del due[group]
        slow = now >= brake_at
        at = np.full(servers, number[spec.brake_clock]) if slow else set_now
        joules = advance(
            now, until, at, seconds, watts, of.idle_w, comes, kinds, upto, cursor, phase, left, high, latency, done
        )
        power[reading] = (joules / telemetry + servers * spec.rest) / limit_w
        slowed += slow or any(is_set)
        if power[reading] > 1 and not braked:
            braked, brakes, brake_at = True, brakes + 1, until + brake
        elif braked and slow and power[reading] < calm:
            braked, brake_at = False, np.inf
        wanted = watcher.wanted(Reading(float(power[reading]), asked, is_set))
        for group, clock, before in ((0, wanted.low, asked.low), (1, wanted.high, asked.high)):
            if clock != before and group not in due:
                due[group] = (until + command, clock)
                commands += 1
                asked = asked._replace(**{_GROUPS[group]: clock})
    median = tuple(_median(latency[group]) for group in (0, 1))
    return Played(
        power[int(WARM_S / telemetry) :],
        brakes,
        commands,
        (median[0], median[1]),
        (int(done[0]), int(done[1])),
        slowed / readings,
        float(power.sum()) * limit_w * telemetry,
    )


def governed(policy: Policy, of: Phases, clocks: list[int], accelerators: int) -> tuple[Floats, Floats]:
    """Seconds and watts of phases where GPUs choose among the clocks that are allowed; [kinds, phases, clocks]."""
    seconds, watts = np.stack([of.prompt_s, of.token_s], axis=1), np.stack([of.prompt_w, of.token_w], axis=1)
    took = np.empty(seconds.shape, np.int64)
    for place in np.ndindex(*seconds.shape[:2]):
        choices = Choices(clocks, seconds[place], watts[place] / accelerators)
        took[place] = [policy.governed(choices, allowed) for allowed in range(len(clocks))]
    return np.take_along_axis(seconds, took, 2), np.take_along_axis(watts, took, 2)


def _rest(
    comes: Floats, kinds: npt.NDArray[np.int64], upto: npt.NDArray[np.int64], cursor: npt.NDArray[np.int64], server: int
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """What a server has not done yet, the one that it serves included."""
    return comes[cursor[server] : upto[server]], kinds[cursor[server] : upto[server]]


def _median(counts: npt.NDArray[np.int64]) -> float:
    """The median of latencies by bins, between bins by counts."""
    total = int(counts.sum())
    if not total:
        return 0.0
    below = np.cumsum(counts)
    place = int(np.searchsorted(below, total / 2))
    before = int(below[place - 1]) if place else 0
    return bin_seconds(place - 0.5 + (total / 2 - before) / int(counts[place]))


def _day(
    spec: RowSpec, of: Phases, rng: np.random.Generator, high: bool, day: int
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """A server's arrivals of a day: a Poisson process whose rate goes up and down as a cosine."""
    served = list(spec.requests.values())
    mine = [i for i, one in enumerate(served) if (one.priority == "high") == high] or list(range(len(served)))
    shares = np.array([served[i].share for i in mine])
    shares = shares / shares.sum()
    work_s = float((shares * (of.prompt_s[mine, 0] + of.token_s[mine, 0])).sum())
    most = spec.arrivals.utilisation / work_s
    count = int(rng.poisson(most * _DAY_S))
    times = np.sort(rng.random(count)) * _DAY_S
    hours = (times / 3600 - spec.arrivals.busiest_hour) * (2 * np.pi / 24)
    night = spec.arrivals.night
    kept = rng.random(count) < night + (1 - night) * (1 + np.cos(hours)) / 2
    kinds = rng.choice(np.array(mine, np.int64), size=count, p=shares)
    return day * _DAY_S + times[kept], kinds[kept]
