"""The answer of a run: a value. Tables are pandas frames, made when asked for."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from archsim.config import digest
from archsim.energy_parts import by_part
from archsim.facts import area_blocks, machine_facts
from archsim.machine import Machine, Placement
from archsim.model.ledger import Ledger, Prices, price_list
from archsim.model.lowered import Blocks
from archsim.occupancy import Occupancy, occupancies
from archsim.op_rows import flat, op_rows, pipelines
from archsim.records import SegmentResult, bounds, segments_of
from archsim.sim.critical import critical_path
from archsim.sim.setting import Setting
from archsim.sim.world import WorldTimes, play
from archsim.units import si
from archsim.version import __version__
from archsim.workloads.answer import Answer
from archsim.workloads.dims import over_steps
from archsim.workloads.launches import DISPATCH, KERNEL, LAUNCH, launch_answer
from archsim.workloads.plan import Plan
from archsim.workloads.program import Segment
from archsim.workloads.task import Pause

if TYPE_CHECKING:
    import pandas as pd

    from archsim.run_spec import RunSpec


@dataclass(frozen=True, repr=False)
class Result:
    """Time, energy and area of a run, per op and per component.

    Energies, areas and powers are of the whole system; times and memory are those of a rank (all are equal).
    """

    spec: RunSpec
    machine: Machine
    plan: Plan
    placements: Mapping[int, Placement]
    segments: tuple[SegmentResult, ...]
    ledger: Ledger
    prices: Prices
    setting: Setting
    world: WorldTimes
    occupancies: Sequence[Occupancy] = ()

    @classmethod
    def of(
        cls,
        spec: RunSpec,
        machine: Machine,
        plan: Plan,
        placements: Mapping[int, Placement],
        setting: Setting,
        world: WorldTimes,
    ) -> Result:
        """The result of a job that has been played.

        Raises
        ------
        InputError: a memory held more than its capacity at some time.
        """
        plan = plan.played(world.job)
        segments, ledger = segments_of(world)
        prices = price_list(machine.components, machine.technology, set(ledger.totals()))
        full = occupancies(machine, plan, placements, world.tasks)
        return cls(spec, machine, plan, placements, segments, ledger, prices, setting, world, full)

    @property
    def placement(self) -> Placement:
        """Where the tensors of the first rank live."""
        return next(iter(self.placements.values()))

    # -- totals

    @property
    def name(self) -> str:
        return self.spec.name

    @functools.cached_property
    def digest(self) -> str:
        """Key of the resolved config and of this version."""
        return digest(self.spec)

    @property
    def ticks(self) -> int:
        """Length of the run in ticks of the machine's timebase."""
        return self.world.ticks

    @property
    def time_s(self) -> float:
        """Length of the run, s."""
        return self.machine.time.seconds(self.ticks)

    @functools.cached_property
    def cycles(self) -> dict[str, int]:
        """Length of the run in cycles of each clock: ``chip`` and every part with one of its own."""
        clocks = {"chip": self.machine.spec.chip.clock}
        clocks |= {path: c.clock_hz for path, c in self.machine.components.items() if c.spec.clock is not None}
        return {name: self.machine.time.to_cycles(self.ticks, hz) for name, hz in clocks.items()}

    @functools.cached_property
    def energy_by_action(self) -> dict[tuple[str, str], float]:
        """(component, action) to joules, static energy as the action ``static``."""
        energy = {key: count * self.prices[key] for key, count in self.ledger.totals().items()}
        for path, watts in self.machine.static_power_w().items():
            if watts:
                energy[path, "static"] = watts * self.time_s * self.plan.ranks
        return energy

    @functools.cached_property
    def energy_by_component(self) -> dict[str, float]:
        """Component to joules."""
        return _grouped((path, joules) for (path, _), joules in self.energy_by_action.items())

    @functools.cached_property
    def energy_by_part(self) -> dict[str, float]:
        """Part, such as ``arithmetic`` or ``HBM``, to joules."""
        return by_part(self.machine, self.energy_by_action)

    @property
    def energy_j(self) -> float:
        """Joules of the run: the sum of its parts."""
        return sum(self.energy_by_component.values())

    @functools.cached_property
    def area_by_component(self) -> dict[str, float]:
        """Component to mm², of all chips."""
        chips = self.machine.spec.chips
        return _grouped((path, area * chips) for path, _, area in self.machine.areas())

    @property
    def area_mm2(self) -> float:
        """Area of all chips: the sum of their parts."""
        return sum(self.area_by_component.values())

    @functools.cached_property
    def left_out(self) -> tuple[str, ...]:
        """What the totals do not hold, in words."""
        chip, ranks = self.machine.spec.chip, self.plan.ranks
        told = []
        if not any(self.machine.static_power_w().values()):
            told.append("no static power is known: energy and mean power are those of actions alone")
        if chip.die is None:
            parts = [*self.machine.engines, *(p for p, m in self.machine.memories.items() if m.kind != "dram")]
            bare = [path for path in parts if not self.area_by_component.get(path)]
            if bare:
                told.append(f"no area is known of {', '.join(bare)}")
        if self.machine.network is not None and not self.area_by_component.get("network"):
            told.append("no area is known of the network")
        if ranks < self.machine.spec.chips:
            told.append(f"area is that of all {self.machine.spec.chips} chips, energy that of the {ranks} that run")
        if self.time_band_s is None:
            told.append("times carry no band of error")
        return tuple(told)

    @functools.cached_property
    def time_band_s(self) -> tuple[float, float] | None:
        """The run's time at the 5th and 95th percentile of its kernels' errors, s, or None where no kernel has a band.

        All kernels are taken to err the same way, so that the band is no narrower than theirs on average; what has none
        counts as exact.
        """
        spent = low = high = 0.0
        known = False
        for segment in self.segments:
            for block in segment.blocks:
                for op in block.ops:
                    engine = self.machine.engines.get(op.lowered.engine)
                    band = None if engine is None else engine.band(op.lowered.op)
                    known = known or band is not None
                    share = segment.count * sum(over_steps(r.exposed, segment.steps) * r.copies for r in op.times)
                    edges = band or (1.0, 1.0)
                    spent, low, high = spent + share, low + share * edges[0], high + share * edges[1]
        if not known or not spent:
            return None
        return self.time_s * low / spent, self.time_s * high / spent

    @functools.cached_property
    def answers(self) -> tuple[Answer, ...]:
        """What the workload answers itself, such as latencies of requests."""
        of_source = () if self.world.source is None else tuple(self.world.source.answers())
        return (*of_source, *(() if self.machine.cpu is None else (self._launches(),)))

    def _launches(self) -> Answer:
        """What the chip's CPU and its launches did, of the first rank."""
        spans: dict[str, list[tuple[int, int]]] = {DISPATCH: [], LAUNCH: [], KERNEL: []}
        for task in self.world.tasks:
            if task.task.name in spans and task.task.rank == 0:
                spans[task.task.name] += [(start, end) for _, start, end in task.each()]
        dispatches, launches, kernels = (sorted(of) for of in spans.values())
        return launch_answer(dispatches, launches, kernels, self.machine.time.ticks_per_s)

    # -- where the time goes

    @functools.cached_property
    def time_by_bound(self) -> dict[str, float]:
        """What bounds the run: server to seconds of the critical path; they sum to the run's length.

        Between ranks it is the network, where a task pauses what it holds or ``pause``, and ``wait`` where nothing was
        there to do.
        """
        ticks: dict[str, float] = defaultdict(int)
        shares: dict[int, dict[str, int]] = {}
        pieces = {id(times): piece for piece in self.world.pieces for times, _ in piece.times}
        for stretch in critical_path(self.world, self.plan.job.first_of()):
            times = stretch.task.times
            if stretch.what != "piece" or times is None:
                ticks[stretch.what] += stretch.ticks
                continue
            if id(times) not in shares:
                piece = pieces[id(times)]
                shares[id(times)] = bounds(times, piece.blocks, piece.segment.steps)
            whole = sum(shares[id(times)].values())
            for name, share in shares[id(times)].items():
                ticks[name] += share if whole == stretch.ticks else share * stretch.ticks / whole
        per_s = self.machine.time.ticks_per_s
        return {name: t / per_s for name, t in sorted(ticks.items(), key=lambda i: -i[1]) if t}

    @property
    def bound_by(self) -> str:
        """The server that bounds most of the run."""
        return next(iter(self.time_by_bound), "")

    @functools.cached_property
    def busy_s(self) -> dict[str, float]:
        """Server to seconds it was held, of a rank on average."""
        ticks: dict[str, int] = defaultdict(int)
        for segment in self.segments:
            for block in segment.blocks:
                for op in block.ops:
                    for name, t in op.lowered.busy().items():
                        ticks[name] += over_steps(t, segment.steps) * block.repeat * segment.count * segment.members
        whole = self.machine.time.ticks_per_s * self.plan.ranks
        return {name: t / whole for name, t in sorted(ticks.items())}

    @functools.cached_property
    def utilisation(self) -> dict[str, float]:
        """Engine to useful work over what it could have done in the run's time, of a rank on average."""
        useful: dict[str, float] = defaultdict(float)
        for segment in self.segments:
            share = segment.count * segment.members / self.plan.ranks
            for block in segment.blocks:
                for op in block.ops:
                    lowered = op.lowered
                    if lowered.peak and lowered.clock_hz:
                        done = over_steps(lowered.useful, segment.steps) * block.repeat
                        useful[lowered.engine] += share * done / (lowered.peak * lowered.clock_hz)
        return {name: seconds / self.time_s for name, seconds in sorted(useful.items())} if self.ticks else {}

    def what_if(self, server: str, factor: int = 2) -> float:
        """Seconds the run would take were a server so many times as fast, the mapping unchanged.

        A server without a model, such as a CPU that launches, is what pauses hold.
        """

        def lower(rank: int, segment: Segment) -> Blocks:
            blocks = self.setting.lower(rank, segment)
            return [(tuple(op.faster(server, factor) for op in ops), repeat) for ops, repeat in blocks]

        job = self.plan.job.sooner(server, factor)
        return self.machine.time.seconds(play(job, replace(self.setting, lower=lower)).ticks)

    @functools.cached_property
    def what_if_s(self) -> dict[str, float]:
        """:meth:`what_if` for each server that bounds some of the run; each is a simulation of its own."""
        known = {*self.busy_s, *self.plan.job.held()}
        return {server: self.what_if(server) for server in self.time_by_bound if server in known}

    # -- tables

    @functools.cached_property
    def op_rows(self) -> list[dict[str, Any]]:
        """A row per op and layer, steps of a segment summed: times in s, energy in J.

        Of an op that recurs in more than 1,024 layers all but the first are one row, named by its first layer and how
        many follow it; its quantities are sums.

        ``time_s`` is the op's share of its rank's time, ``duration_s`` runs from its start to its end, both of all
        executions; ``traffic`` is bytes by memory or link, ``busy_s`` the seconds each server is held.
        """
        phased = len(self.placements) > 1 or bool(self.plan.phases)
        return op_rows(self.segments, self.machine, self.prices, self.plan.ranks if phased else None)

    def ops(self) -> pd.DataFrame:
        """The rows of :attr:`op_rows` as a frame."""
        import pandas as pd

        return pd.DataFrame(self.flat_op_rows())

    def flat_op_rows(self) -> list[dict[str, Any]]:
        """:attr:`op_rows` without nested columns: ``traffic`` becomes ``traffic.chip.hbm`` and so on."""
        return [flat(row) for row in self.op_rows]

    def components(self) -> pd.DataFrame:
        """A row per component: busy share, utilisation, energy (J), area (mm²)."""
        import pandas as pd

        return pd.DataFrame(self.component_rows())

    def component_rows(self) -> list[dict[str, Any]]:
        """As :meth:`components`, as plain rows."""
        names = [
            *self.machine.components,
            *(
                k
                for k in (*self.busy_s, *self.energy_by_component, *self.area_by_component)
                if k not in self.machine.components
            ),
        ]
        return [
            {
                "component": name,
                "kind": self.machine.components[name].kind if name in self.machine.components else "",
                "busy_s": self.busy_s.get(name, 0.0),
                "busy": self.busy_s.get(name, 0.0) / self.time_s if self.ticks else 0.0,
                "critical_s": self.time_by_bound.get(name, 0.0),
                "utilisation": self.utilisation.get(name),
                "energy_j": self.energy_by_component.get(name, 0.0),
                "area_mm2": self.area_by_component.get(name, 0.0),
            }
            for name in dict.fromkeys(names)
        ]

    def kind_rows(self) -> list[dict[str, Any]]:
        """A row per phase and op kind: exposed time (s), share, FLOPs and bytes of a rank on average, energy of all."""
        rows: dict[tuple[str, str], dict[str, Any]] = {}
        of = {segment.name: (segment.phase, segment.members) for segment in self.segments}
        for row in self.op_rows:
            phase, members = of[row["name"].partition("/")[0]]
            key = (phase, row["kind"])
            total = rows.setdefault(
                key,
                {
                    "segment": key[0],
                    "kind": key[1],
                    "time_s": 0.0,
                    "flops": 0,
                    "bytes": 0,
                    "energy_j": 0.0,
                    "bounds": defaultdict(float),
                },
            )
            for column in ("time_s", "flops", "bytes"):
                whole = row[column] * members
                exact = isinstance(whole, int) and whole % self.plan.ranks == 0
                total[column] += whole // self.plan.ranks if exact else whole / self.plan.ranks
            total["energy_j"] += row["energy_j"]
            total["bounds"][row["bound_by"]] += row["time_s"]
        answer = []
        for total in sorted(rows.values(), key=lambda r: -r["time_s"]):
            bounds = total.pop("bounds")
            answer.append(
                {
                    **total,
                    "share": total["time_s"] / self.time_s if self.ticks else 0.0,
                    "bound_by": max(bounds, key=lambda k: bounds[k]),
                }
            )
        return answer

    def memory_rows(self) -> list[dict[str, Any]]:
        """A row per memory tier: bytes occupied at most, capacity; of the rank that occupies most."""
        fullest = self._fullest()
        return [
            {
                "memory": path,
                "peak_bytes": fullest[path].peak_bytes
                if path in fullest
                else max(placement.peak_bytes[path] for placement in self.placements.values()),
                "capacity_bytes": memory.capacity_bytes,
            }
            for path, memory in self.machine.memories.items()
        ]

    def _fullest(self) -> dict[str, Occupancy]:
        """Memory in which something comes and goes to that of the rank that occupies most of it."""
        fullest: dict[str, Occupancy] = {}
        for one in self.occupancies:
            best = fullest.get(one.memory)
            if best is None or one.peak_bytes > best.peak_bytes:
                fullest[one.memory] = one
        return fullest

    def memory_over_time(self) -> dict[str, dict[str, Any]]:
        """Memory in which something comes and goes to what it holds of each kind (bytes) from each time (s) on.

        Of the rank that occupies most of it.
        """
        seconds = self.machine.time.seconds
        return {
            path: {
                "rank": one.rank,
                "time_s": [seconds(int(tick)) for tick in one.ticks],
                "bytes": {kind: [int(n) for n in values] for kind, values in one.kinds.items()},
            }
            for path, one in ((path, full.shortened()) for path, full in self._fullest().items())
        }

    def task_rows(self, most: int = 10_000) -> list[dict[str, Any]]:
        """A row per task of the described ranks: when it ran (s) and what it came after.

        Of more than ``most`` those that take longest, pieces of work before others. Empty for ranks that do one thing
        after the other: their phases say it all.
        """
        tasks = self.world.tasks
        if len({(t.task.rank, t.task.stream) for t in tasks}) < 2:
            return []
        executions = [(t, *each) for t in tasks for each in t.each()]
        if len(executions) > most:
            executions = sorted(executions, key=lambda e: (e[0].times is None, e[2] - e[3]))[:most]
        executions.sort(key=lambda e: (e[3], e[2], e[0].task.rank, e[0].task.stream))
        seconds = self.machine.time.seconds
        return [
            {
                "rank": t.task.rank,
                "ranks": len(self.plan.job.members(t.task.rank)),
                "stream": t.task.stream,
                "name": t.task.name,
                "number": number,
                "computes": t.times is not None or (isinstance(t.task.what, Pause) and bool(t.task.what.holds)),
                "start_s": seconds(start),
                "end_s": seconds(end),
                "after": [
                    [t.task.rank if wait.rank is None else wait.rank, wait.name, number - wait.back]
                    for wait in t.task.after
                ],
            }
            for t, number, start, end in executions
        ]

    def segment_rows(self) -> list[dict[str, Any]]:
        """A row per phase: length (s) and steps of a rank on average, tokens per second of the whole system.

        A phase that is cut into pieces lasts from its first one to its last.
        """
        per_s = self.machine.time.ticks_per_s
        rows = []
        for phase, mine in self._by_phase().items():
            whole = self.plan.phases.get(phase)
            ticks = sum(s.ticks * s.count * s.members for s in mine)
            steps = sum(s.steps * s.count * s.members for s in mine)
            seconds, step_s = ticks / (per_s * self.plan.ranks), ticks / (per_s * steps) if steps else 0.0
            tokens = sum(over_steps(s.tokens, s.steps) * s.count for s in mine)
            if whole is not None:
                seconds = self.machine.time.seconds(
                    max(s.last_start + s.ticks for s in mine) - min(s.start for s in mine)
                )
                steps, tokens = whole.steps * self.plan.ranks, whole.tokens
                step_s = seconds / whole.steps
            rows.append(
                {
                    "segment": phase,
                    "time_s": seconds,
                    "steps": -(-steps // self.plan.ranks),
                    "step_s": step_s,
                    "tokens": tokens,
                    "tokens_per_s": tokens / seconds if seconds else 0.0,
                }
            )
        return rows

    def _by_phase(self) -> dict[str, list[SegmentResult]]:
        """Phase to its segments, in the order in which they first run."""
        phases: dict[str, list[SegmentResult]] = defaultdict(list)
        for segment in self.segments:
            phases[segment.phase].append(segment)
        return phases

    # -- out

    def pipelines(self) -> list[dict[str, Any]]:
        """Each distinct pipeline in space: its stages with their units, and how long each computes in its last step."""
        return pipelines(self.segments)

    def critical_path(self) -> dict[str, dict[str, float]]:
        """Server to its time on the path, s, and what twice as fast would gain, if :attr:`what_if_s` has been asked."""
        asked: dict[str, float] = self.__dict__.get("what_if_s", {})
        path = {name: {"time_s": seconds} for name, seconds in self.time_by_bound.items()}
        for name, seconds in asked.items():
            path[name]["run_s_if_twice_as_fast"] = seconds
            path[name]["speedup_if_twice_as_fast"] = self.time_s / seconds if seconds else 1.0
        return path

    @functools.cached_property
    def hidden_s(self) -> float:
        """Seconds of communication that a rank's parts run beside the op that produces it, a mean over all ranks."""
        return float(sum(row["hidden_s"] * row.get("share", 1.0) for row in self.op_rows))

    def to_json(self) -> dict[str, Any]:
        """All of it as plain data, for ``--json`` and ``result.json``.

        The critical path says what twice as fast would gain once :attr:`what_if_s` has been asked.
        """
        by_action: dict[str, float] = _grouped(
            (f"{path}.{action}", joules) for (path, action), joules in self.energy_by_action.items()
        )
        band = self.time_band_s
        columns = (
            "name",
            "kind",
            "start_s",
            "end_s",
            "time_s",
            "duration_s",
            "steps",
            "cycles",
            "engine",
            "flops",
            "bytes",
            "energy_j",
            "bound_by",
            "utilisation",
            "hidden_s",
            "why",
            "traffic",
            "busy_s",
            "phase",
            "share",
        )
        return {
            "name": self.name,
            "digest": self.digest,
            "version": __version__,
            "machine": machine_facts(self.machine),
            "workload": {"name": self.plan.name, "kind": self.spec.workload.kind, "ranks": self.plan.ranks},
            "time_s": self.time_s,
            **({} if band is None else {"time_low_s": band[0], "time_high_s": band[1]}),
            **({"hidden_s": self.hidden_s} if self.hidden_s else {}),
            "cycles": self.cycles,
            "segments": self.segment_rows(),
            "energy_j": {
                "total": self.energy_j,
                "by_part": self.energy_by_part,
                "by_component": self.energy_by_component,
                "by_action": by_action,
            },
            "area_mm2": {
                "total": self.area_mm2,
                "by_component": self.area_by_component,
                "by_block": area_blocks(self.machine),
            },
            "memory": {
                row["memory"]: {"peak_bytes": row["peak_bytes"], "capacity_bytes": row["capacity_bytes"]}
                for row in self.memory_rows()
            },
            **({"memory_over_time": over_time} if (over_time := self.memory_over_time()) else {}),
            "bound_by": self.bound_by,
            **({"pipelines": pipelines} if (pipelines := self.pipelines()) else {}),
            **({"tasks": tasks} if (tasks := self.task_rows()) else {}),
            "critical_path": self.critical_path(),
            "components": self.component_rows(),
            **self._answers_json(),
            "notes": list(self.plan.notes),
            "left_out": list(self.left_out),
            "ops": [{column: row[column] for column in columns if column in row} for row in self.op_rows],
        }

    def _answers_json(self) -> dict[str, Any]:
        """What the workload answers itself, each under its name, and the names."""
        if not self.answers:
            return {}
        return {"answers": [a.name for a in self.answers], **{a.name: a.plain() for a in self.answers}}

    def __str__(self) -> str:
        return (
            f"{self.name}: {si(self.time_s, 's', 4)}, {si(self.energy_j, 'J')}, {self.area_mm2:.1f} mm2, "
            f"bound by {self.bound_by}"
        )

    def __repr__(self) -> str:
        phases = ", ".join(f"{row['segment']} {si(row['time_s'], 's', 4)}" for row in self.segment_rows()[:8])
        return f"<{self}\n {self.plan.ranks} of {self.machine.spec.chips} x {self.machine.spec.chip.name}: {phases}>"


def _grouped(items: Any) -> dict[str, float]:
    groups: dict[str, float] = defaultdict(float)
    for key, value in items:
        groups[key] += value
    return dict(groups)
