"""One DRAM channel: requests in, times and commands out."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from archsim.components.memory.command_level import arbiter, recurrence
from archsim.components.memory.command_level.arbiter import Arbitration, Requester
from archsim.components.memory.command_level.device import Ints
from archsim.components.memory.command_level.device import device as arrays
from archsim.components.memory.command_level.policy import FirstReady, Policy, policy
from archsim.components.memory.command_level.preset import DramPreset, preset
from archsim.components.memory.command_level.standard import COMMANDS
from archsim.components.memory.command_level.stream import Stream, forward
from archsim.components.memory.command_level.work import Requests, Work, decode, work
from archsim.config import Source
from archsim.errors import InputError

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
    open_ticks: ticks in which any bank was open, summed over ranks (or pseudo-channels), each bank from its ACT to the
        command that closes it, RDA and WRA included.
    periods: how many periods of a stream were counted instead of played.
    """

    def __init__(
        self,
        device_: DramPreset,
        chosen: Policy,
        requests: int,
        state: Any,
        totals: Ints,
        latencies: Ints,
        ticks: int = 0,
    ) -> None:
        now, banks = state.now, state.banks
        self.preset = device_
        self.policy = chosen
        found: list[int] = totals.tolist()
        self.row_hits, self.row_misses, self.row_conflicts, opened, *sent = found
        first = {"ACT": "ACT1"} if device_.rules.bus == "split" else {}
        self.counts: dict[str, int] = {first.get(name, name): n for name, n in zip(COMMANDS, sent, strict=True)}
        taken, last = int(now.taken_at) + ticks, int(now.last) + ticks
        self.cycles = {"taken": taken, "moved": max(taken, last), "read": max(taken, last) + 1}[chosen.until]
        if chosen.kernel == "per_bank":
            self.row_misses = self.reads + self.writes - self.row_hits
        self.last_taken = taken
        still = int((banks["opened"] > 0).sum())
        self.open_ticks = opened + still * (self.cycles - int(now.clock) - ticks)
        self.periods = 0
        self._requests = requests
        self._latencies = latencies

    @property
    def activates(self) -> int:
        """ACT commands sent."""
        return self.counts.get("ACT", 0) + self.counts.get("ACT1", 0)

    @property
    def precharges(self) -> int:
        """PREpb and PREab commands sent, and reads and writes that closed their row."""
        return sum(self.counts[name] for name in ("PREpb", "PREab", "RDA", "WRA"))

    @property
    def reads(self) -> int:
        """RD and RDA commands sent."""
        return self.counts["RD"] + self.counts["RDA"]

    @property
    def writes(self) -> int:
        """WR and WRA commands sent."""
        return self.counts["WR"] + self.counts["WRA"]

    @property
    def refreshes(self) -> int:
        """REFab and REFpb commands sent."""
        return self.counts["REFab"] + self.counts["REFpb"]

    @property
    def time_s(self) -> float:
        """Seconds from the start to the end."""
        return self.cycles * self.preset.tick_ps * 1e-12

    @property
    def bytes(self) -> int:
        """Bytes asked for."""
        return self._requests * self.preset.burst

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
        share = 1 / self.preset.refreshed_together  # of a refresh of all, for that of one bank
        times = {
            "ACT": self.activates,
            "RD": self.reads,
            "WR": self.writes,
            "REF": self.counts["REFab"] + self.counts["REFpb"] * share,
        }
        ticks = self.preset.rules.ticks
        background = (self.open_ticks * each["active cycle"] + idle * each["idle cycle"]) / ticks
        return {name: count * each[name] for name, count in times.items()} | {"background": background}

    @property
    def latencies(self) -> Ints:
        """Ticks from taken to answered of reads, how many took that, and the tick of their data [reads, 3]."""
        return self._latencies

    @property
    def mean_read_latency(self) -> float:
        """Mean read latency as the policy's simulator counts it, in ticks.

        Ramulator divides the latencies of the reads answered by its end by the RD commands sent.
        """
        ticks, times, done = self._latencies.T
        if self.policy.until == "taken":
            answered = np.maximum.accumulate(done) <= self.cycles
            return float((ticks * times)[answered].sum() / max(1, self.reads))
        return float((ticks * times).sum() / times.sum()) if times.size else 0.0

    @cached_property
    def _sorted(self) -> tuple[Ints, Ints]:
        """Read latencies in order, and how many reads have at most each."""
        ticks, times, _ = self._latencies[np.argsort(self._latencies[:, 0], kind="stable")].T
        return ticks, np.cumsum(times)

    def latency_percentile(self, share: float) -> float:
        """The read latency that ``share`` percent of the reads do not exceed, in ticks, between two of them in line."""
        ticks, upto = self._sorted
        if not ticks.size:
            return 0.0
        place = share / 100 * (upto[-1] - 1)
        low, high = ticks[np.searchsorted(upto, [np.floor(place) + 1, np.ceil(place) + 1])].tolist()
        return float(low + (high - low) * (place % 1))

    def summary(self) -> dict[str, Any]:
        """The figures under the names of the columns of a table of cases."""
        tick_ns = self.preset.tick_ps / 1e3
        return {
            "cycles": self.cycles,
            "cycle_ps": self.preset.tick_ps,
            "clocks": self.cycles * self.preset.tick_ps / self.preset.tCK,
            "clock_ps": float(self.preset.tCK),
            "time_s": self.time_s,
            "bw_GBps": self.bytes_per_s / 1e9,
            "bus_share": self.bytes_per_s / self.preset.peak_bytes_per_s,
            "row_hits": self.row_hits,
            "row_misses_or_nonhits": self.row_misses,
            "row_conflicts": self.row_conflicts,
            "ACT": self.activates,
            "PRE": self.precharges,
            "RD": self.reads,
            "WR": self.writes,
            "REF": self.refreshes,
            "avg_read_latency_cyc": self.mean_read_latency,
            **self._energy(),
            **{f"read_latency_p{share}_ns": self.latency_percentile(share) * tick_ns for share in (50, 95, 99, 100)},
        }

    def _energy(self) -> dict[str, Any]:
        if self.preset.power is None and self.preset.bits is None:
            return {"energy_note": "no currents (IDD) of this device are published: no energy"}
        joules = self.energy_j
        return {f"energy_{name}_j": value for name, value in joules.items()} | {
            "energy_j": sum(joules.values()),
            "pJ_per_bit": sum(joules.values()) * 1e12 / (8 * self.bytes),
        }


class Played(Answer):
    """What a channel did with requests one by one."""

    def __init__(self, device_: DramPreset, chosen: Policy, requests: Requests, done: Work, state: Any) -> None:
        now = state.now
        totals = np.zeros(recurrence.TOTAL, np.int64)
        recurrence.totals(now, state.banks, totals)
        self._answered = done.answered[: now.answered]
        data = done.requests["done"][self._answered]
        latencies = np.empty((len(data), 3), np.int64)
        latencies[:, 0] = data - done.requests["taken"][self._answered]
        latencies[:, 1], latencies[:, 2] = 1, data
        super().__init__(device_, chosen, len(requests), state, totals, latencies)
        self.requests = requests
        self._work = done
        self._logged = int(now.logged)

    @property
    def done(self) -> Ints:
        """Tick of the last data of each request, -1 for writes that still wait at the end."""
        return self._work.requests["done"]

    @property
    def read_latencies(self) -> Ints:
        """Ticks from taken to answered of each read that was answered, in the order of the answers."""
        return self._latencies[:, 0]

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
        self._figures = self.policy.figures
        self._kernel = importlib.import_module(f"{__package__}.{self.policy.kernel}")

    def start(self) -> Any:
        """The state before the first tick."""
        return self._kernel.start(self._device, self._figures)

    def advance(self, state: Any, todo: Work, until: int) -> tuple[Any, Work, bool]:
        """The state at tick ``until``, what became of the requests, and whether all is done; changes neither input."""
        state = type(state)(*(array.copy() for array in state))
        todo = Work(todo.requests.copy(), todo.answered.copy(), todo.log.copy())
        return state, todo, bool(self._kernel.advance(state, self._device, todo, self._figures, until, False))

    def play(self, requests: Requests, log: int = 0, every_tick: bool = False) -> Played:
        """Play requests to the end.

        Parameters
        ----------
        log: how many commands to keep.
        every_tick: step through every tick instead of from one that matters to the next; the answer is equal.

        Raises
        ------
        InputError: an address lies beyond the channel.
        """
        if len(requests):
            self._reach(0, int(requests.address.max()))
        todo, state = work(self.preset, requests, log), self.start()
        self._kernel.advance(state, self._device, todo, self._figures, NEVER, every_tick)
        return Played(self.preset, self.policy, requests, todo, state)

    def stream(self, stream: Stream, brute_force: bool = False) -> Answer:
        """Play a stream to the end; its repetitions are counted, unless by ``brute_force``, and the answer is equal.

        Raises
        ------
        InputError: an address lies beyond the channel.
        """
        self._reach(*stream.span)
        if not brute_force and isinstance(self._figures, FirstReady):
            done = forward(self.preset, self._device, self._figures, self.start(), stream)
            if done is not None:
                answer = Answer(
                    self.preset, self.policy, len(stream), done.state, done.totals, done.latencies, done.ticks
                )
                answer.periods = done.periods
                return answer
        return self.play(stream.requests())

    def together(
        self, sources: Sequence[Requester], arbitration: Arbitration = "round_robin", log: int = 0
    ) -> tuple[Played, Ints]:
        """Play several streams at once to the end; with the answer the number of the stream of each request.

        Raises
        ------
        InputError: a stream cannot be played, or the policy has no arbiter before it.
        """
        if not isinstance(self._figures, FirstReady):
            raise InputError(f"{self.policy.name} plays one stream at a time: use frfcfs")
        arbiter.check(sources)
        parts = [source.requests for source in sources]
        pool = Requests(
            np.concatenate([p.address for p in parts]),
            np.concatenate([p.is_write for p in parts]),
            np.concatenate([p.arrival for p in parts]),
        )
        self._reach(0, int(pool.address.max()))
        rows, state = np.zeros(len(pool), np.int64), self.start()
        todo, listed = work(self.preset, pool, log), work(self.preset, pool).requests
        arbiter.play(
            state,
            self._device,
            todo,
            self._figures,
            listed,
            arbiter.table(sources),
            rows,
            arbitration == "round_robin",
        )
        order = np.argsort(rows)
        offered = Requests(pool.address[order], pool.is_write[order], pool.arrival[order])
        stream = np.repeat(np.arange(len(parts)), [len(p) for p in parts])[order]
        return Played(self.preset, self.policy, offered, todo, state), stream

    def _reach(self, low: int, high: int) -> None:
        if low < 0 or high >= self.preset.capacity_bytes:
            wrong = low if low < 0 else high
            raise InputError(f"address {wrong:#x} lies beyond the {self.preset.capacity_bytes:,} bytes of the channel")
