"""One DRAM channel: requests in, times and commands out."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from archsim.components.memory.command_level import issue
from archsim.components.memory.command_level.device import Ints
from archsim.components.memory.command_level.device import device as arrays
from archsim.components.memory.command_level.policy import Policy, policy
from archsim.components.memory.command_level.preset import DramPreset, preset
from archsim.components.memory.command_level.standard import COMMANDS
from archsim.components.memory.command_level.work import DONE, TAKEN, Requests, Work, decode, work
from archsim.config import Source

NEVER = 2**60


@dataclass(frozen=True)
class Command:
    """A command as it went over the bus; ``place`` holds its levels from the outside in, -1 where it is for all."""

    tick: int
    name: str
    place: tuple[int, ...]
    row: int
    column: int


class Answer:
    """What a channel did.

    Attributes
    ----------
    cycles: controller ticks from the start to the end that the policy names.
    counts: commands sent, by name.
    row_hits, row_misses, row_conflicts: requests that found their row open, none open, another open. DRAMsim3 counts
        column commands (no hit is the first after an ACT) and rows closed for a request.
    last_taken: tick in which the last request was taken.
    open_ticks: ticks in which any bank was open, summed over ranks (or pseudo-channels).
    """

    def __init__(
        self, device_: DramPreset, chosen: Policy, requests: Requests, done: Work, now: Ints, banks: Ints
    ) -> None:
        self.preset = device_
        self.policy = chosen
        self.requests = requests
        self._work = done
        sent = now[issue.COUNT : issue.OWN]
        first = {"ACT": "ACT1"} if device_.rules.bus == "split" else {}
        self.counts = {first.get(name, name): int(n) for name, n in zip(COMMANDS, sent, strict=False)}
        taken, last = int(now[issue.SENT]), int(now[issue.LAST])
        self.cycles = {"taken": taken, "moved": max(taken, last), "read": max(taken, last) + 1}[chosen.until]
        self.row_hits, self.row_misses, self.row_conflicts = (
            int(now[place]) for place in (issue.HITS, issue.MISSES, issue.CONFLICTS)
        )
        if chosen.kernel == "per_bank":
            self.row_misses = self.counts["RD"] + self.counts["WR"] - self.row_hits
        self._answered = done.answered[: now[issue.ANSWERED]]
        self._logged = int(now[issue.LOGGED])
        self.last_taken = taken
        still = (banks[issue.OPENED] > 0) * (self.cycles - banks[issue.SINCE])
        self.open_ticks = int((banks[issue.OPEN_TICKS] + still).sum())

    @property
    def activates(self) -> int:
        """ACT commands sent."""
        return self.counts.get("ACT", 0) + self.counts.get("ACT1", 0)

    @property
    def precharges(self) -> int:
        """PREpb and PREab commands sent."""
        return self.counts["PREpb"] + self.counts["PREab"]

    @property
    def time_s(self) -> float:
        """Seconds from the start to the end."""
        return self.cycles * self.preset.tick_ps * 1e-12

    @property
    def bytes(self) -> int:
        """Bytes asked for."""
        return len(self.requests) * self.preset.burst

    @property
    def bytes_per_s(self) -> float:
        """Bytes asked for in the time."""
        return self.bytes / self.time_s if self.cycles else 0.0

    @property
    def energy_j(self) -> Mapping[str, float]:
        """Joules of the devices by what took them: ACT (with PRE), RD, WR, REF, background; without interface.

        Raises
        ------
        InputError: the preset has no currents.
        """
        ranks = self.preset.banks // self.preset.refreshed_together
        idle = self.cycles * ranks - self.open_ticks
        each = self.preset.energy_j
        times = {"ACT": self.activates, "RD": self.counts["RD"], "WR": self.counts["WR"], "REF": self.counts["REFab"]}
        ticks = self.preset.rules.ticks
        background = (self.open_ticks * each["active cycle"] + idle * each["idle cycle"]) / ticks
        return {name: count * each[name] for name, count in times.items()} | {"background": background}

    @property
    def done(self) -> Ints:
        """Tick of the last data of each request, -1 for writes that still wait at the end."""
        return self._work.requests[:, DONE]

    @cached_property
    def read_latencies(self) -> Ints:
        """Ticks from taken to answered of each read that was answered, in the order of the answers."""
        rows = self._work.requests[self._answered]
        return np.asarray(rows[:, DONE] - rows[:, TAKEN])

    @property
    def mean_read_latency(self) -> float:
        """Mean read latency as the policy's simulator counts it, in ticks.

        Ramulator divides the latencies of the reads answered by its end by the RD commands sent.
        """
        latencies = self.read_latencies
        if self.policy.until == "taken":
            answered = np.maximum.accumulate(self.done[self._answered]) <= self.cycles
            return float(latencies[answered].sum() / max(1, self.counts["RD"]))
        return float(latencies.mean()) if latencies.size else 0.0

    def latency_percentile(self, share: float) -> float:
        """The read latency that ``share`` percent of the reads do not exceed, in ticks."""
        return float(np.percentile(self.read_latencies, share)) if self.read_latencies.size else 0.0

    @property
    def commands(self) -> list[Command]:
        """The commands that were logged, in order."""
        log = self._work.log[: self._logged]
        parts = decode(self.preset, self.requests.address)
        sizes = [self.preset.organisation[level] for level in self.preset.rules.levels]
        scoped = self._scoped()
        commands = []
        for tick, command, bank, request in log.tolist():
            place = list[int]()
            for size in reversed(sizes):
                place.insert(0, bank % size)
                bank //= size
            name = COMMANDS[command]
            if name in ("PREab", "REFab"):
                place[scoped:] = [-1] * (len(place) - scoped)
            if name == "ACT" and self.preset.rules.bus == "split":
                name = "ACT1"
            row, column = (-1, -1) if request < 0 else (int(parts["row"][request]), int(parts["column"][request]))
            commands.append(Command(tick, name, tuple(place), row, column))
        return commands

    def _scoped(self) -> int:
        """How many levels a PREab or a REFab names."""
        levels = ("channel", *self.preset.rules.levels)
        return levels.index(self.preset.rules.scope)

    def summary(self) -> dict[str, Any]:
        """The figures under the names of the columns of a table of cases."""
        tick_ns = self.preset.tick_ps / 1e3
        return {
            "cycles": self.cycles,
            "time_s": self.time_s,
            "bw_GBps": self.bytes_per_s / 1e9,
            "bus_share": self.bytes_per_s / self.preset.peak_bytes_per_s,
            "row_hits": self.row_hits,
            "row_misses_or_nonhits": self.row_misses,
            "row_conflicts": self.row_conflicts,
            "ACT": self.activates,
            "PRE": self.precharges,
            "RD": self.counts["RD"],
            "WR": self.counts["WR"],
            "REF": self.counts["REFab"],
            "avg_read_latency_cyc": self.mean_read_latency,
            **self._energy(),
            **{f"read_latency_p{share}_ns": self.latency_percentile(share) * tick_ns for share in (50, 95, 99, 100)},
        }

    def _energy(self) -> dict[str, float]:
        if self.preset.power is None:
            return {}
        joules = self.energy_j
        return {f"energy_{name}_j": value for name, value in joules.items()} | {
            "energy_j": sum(joules.values()),
            "pJ_per_bit": sum(joules.values()) * 1e12 / (8 * self.bytes),
        }


class Channel:
    """A device and the controller before it.

    Parameters
    ----------
    device: a preset, or the name or file of one.
    controller: the name of a policy.
    """

    def __init__(self, device: DramPreset | Source, controller: str = "frfcfs") -> None:
        self.preset = device if isinstance(device, DramPreset) else preset(device)
        self.policy = policy(controller, self.preset)
        self._device = arrays(self.preset)
        self._figures: npt.NDArray[np.int64] = np.array(self.policy.figures, np.int64)
        self._kernel = importlib.import_module(f"{__package__}.{self.policy.kernel}")

    def start(self) -> Any:
        """The state before the first tick."""
        return self._kernel.start(self._device, self._figures)

    def advance(self, state: Any, todo: Work, until: int) -> tuple[Any, Work, bool]:
        """The state at tick ``until``, what became of the requests, and whether all is done; changes neither input."""
        state = type(state)(*(array.copy() for array in state))
        todo = Work(*(array.copy() for array in todo))
        return state, todo, bool(self._kernel.advance(state, self._device, todo, self._figures, until, False))

    def play(self, requests: Requests, log: int = 0, every_tick: bool = False) -> Answer:
        """Play requests to the end.

        Parameters
        ----------
        log: how many commands to keep.
        every_tick: step through every tick instead of from one that matters to the next; the answer is equal.
        """
        todo, state = work(self.preset, requests, log), self.start()
        self._kernel.advance(state, self._device, todo, self._figures, NEVER, every_tick)
        return Answer(self.preset, self.policy, requests, todo, state.now, state.banks)
