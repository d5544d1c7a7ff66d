"""The answer of a run: a value. Tables are pandas frames, made when asked for."""

from __future__ import annotations

import functools
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from archsim.config import digest, to_yaml
from archsim.files import csv_text, write_texts
from archsim.machine import Machine, Placement
from archsim.model.ledger import Ledger, Prices
from archsim.model.lowered import Lowered
from archsim.sim.schedule import OpTimes
from archsim.sim.segment import simulate
from archsim.version import __version__
from archsim.workloads.op import Dim
from archsim.workloads.program import Program

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from archsim.run_spec import RunSpec


@dataclass(frozen=True)
class OpResult:
    """An op on the machine, and when its copies ran."""

    lowered: Lowered
    times: tuple[OpTimes, ...]


@dataclass(frozen=True)
class BlockResult:
    """The ops of a block; ``repeat`` copies, the first one numbered ``first``."""

    name: str
    repeat: int
    first: int
    ops: tuple[OpResult, ...]

    def label(self, copy: int) -> str:
        """Name of a copy: ``layers.7``, or the block's own when there is one."""
        return self.name if self.repeat == 1 else f"{self.name}.{self.first + copy}"


@dataclass(frozen=True)
class SegmentResult:
    """A phase and the length of each of its steps in ticks, int64 [steps]."""

    name: str
    steps: int
    tokens: int
    blocks: tuple[BlockResult, ...]
    step_ticks: npt.NDArray[np.int64]

    @property
    def ticks(self) -> int:
        """Length of the segment."""
        return int(self.step_ticks.sum())


def _steps(value: Dim, steps: int) -> npt.NDArray[np.int64]:
    return np.broadcast_to(np.asarray(value, dtype=np.int64), (steps,))


def _sum(value: Dim, steps: int) -> int:
    return int(value.sum()) if isinstance(value, np.ndarray) and value.ndim else int(value) * steps


@dataclass(frozen=True)
class Result:
    """Time, energy and area of a run, per op and per component.

    Energies, areas and powers are of the whole system; times and memory are those of a rank (all are equal).
    """

    spec: RunSpec
    machine: Machine
    program: Program
    placement: Placement
    segments: tuple[SegmentResult, ...]
    ledger: Ledger
    prices: Prices

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
        return sum(segment.ticks for segment in self.segments)

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
                energy[path, "static"] = watts * self.time_s * self.program.ranks
        return energy

    @functools.cached_property
    def energy_by_component(self) -> dict[str, float]:
        """Component to joules."""
        return _grouped((path, joules) for (path, _), joules in self.energy_by_action.items())

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

    # -- where the time goes

    @functools.cached_property
    def time_by_bound(self) -> dict[str, float]:
        """What bounds the run: server to seconds of the critical path; they sum to the run's length."""
        ticks: dict[str, int] = defaultdict(int)
        for segment in self.segments:
            for block in segment.blocks:
                for op in block.ops:
                    limits = op.lowered.busy()
                    names = list(limits)
                    slowest = np.argmax([_steps(t, segment.steps) for t in limits.values()], axis=0) if names else None
                    for record in op.times:
                        exposed = record.copies * _steps(record.exposed, segment.steps)
                        for i, name in enumerate(names):
                            ticks[name] += int(exposed[slowest == i].sum())
        return {name: self.machine.time.seconds(t) for name, t in sorted(ticks.items(), key=lambda i: -i[1]) if t}

    @property
    def bound_by(self) -> str:
        """The server that bounds most of the run."""
        return next(iter(self.time_by_bound), "")

    @functools.cached_property
    def busy_s(self) -> dict[str, float]:
        """Server to seconds it was held."""
        ticks: dict[str, int] = defaultdict(int)
        for segment in self.segments:
            for block in segment.blocks:
                for op in block.ops:
                    for name, t in op.lowered.busy().items():
                        ticks[name] += _sum(t, segment.steps) * block.repeat
        return {name: self.machine.time.seconds(t) for name, t in sorted(ticks.items())}

    @functools.cached_property
    def utilisation(self) -> dict[str, float]:
        """Engine to useful work over what it could have done in the run's time."""
        useful: dict[str, float] = defaultdict(float)
        for segment in self.segments:
            for block in segment.blocks:
                for op in block.ops:
                    lowered = op.lowered
                    if lowered.peak and lowered.clock_hz:
                        done = _sum(lowered.useful, segment.steps) * block.repeat
                        useful[lowered.engine] += done / (lowered.peak * lowered.clock_hz)
        return {name: seconds / self.time_s for name, seconds in sorted(useful.items())} if self.ticks else {}

    @functools.cached_property
    def what_if_s(self) -> dict[str, float]:
        """Server to seconds the run would take were that one twice as fast, the mapping unchanged."""
        answers = {}
        for server in self.time_by_bound:
            total = 0
            for segment in self.segments:
                blocks = [
                    (tuple(op.lowered.faster(server, 2) for op in block.ops), block.repeat) for block in segment.blocks
                ]
                total += _sum(simulate(blocks, segment.steps).step_ticks, segment.steps)
            answers[server] = self.machine.time.seconds(total)
        return answers

    # -- tables

    @functools.cached_property
    def op_rows(self) -> list[dict[str, Any]]:
        """A row per op and layer, steps of a segment summed: times in s, energy in J.

        ``time_s`` is the op's share of the run's length, ``duration_s`` runs from its start to its end;
        ``traffic`` is bytes by memory or link, ``busy_s`` the seconds each server is held.
        """
        rows: list[dict[str, Any]] = []
        time = self.machine.time
        by_op = self.ledger.by_op()
        offset = 0
        for segment in self.segments:
            n = segment.steps
            last_step = segment.ticks - int(segment.step_ticks[-1]) if n else 0
            for block in segment.blocks:
                for op in block.ops:
                    low = op.lowered
                    counts = by_op.get(f"{segment.name}/{block.name}.{low.op.name}", {})
                    energy = sum(count * self.prices[key] for key, count in counts.items()) / block.repeat
                    limits = {name: _sum(t, n) for name, t in low.busy().items()}
                    traffic = {path: _sum(b, n) for path, b in low.traffic.items()}
                    fixed = {
                        "kind": low.op.kind,
                        "engine": low.engine,
                        "steps": n,
                        "cycles": _sum(low.cycles, n),
                        "flops": _sum(low.op.flops(), n),
                        "bytes": sum(b for path, b in traffic.items() if path != self.machine.scratchpad.path),
                        "energy_j": energy,
                        "bound_by": max(limits, key=lambda k: limits[k], default=""),
                        "utilisation": (
                            _sum(low.useful, n) / (low.peak * _sum(low.cycles, n))
                            if low.peak and _sum(low.cycles, n)
                            else None
                        ),
                        "why": low.why,
                        "traffic": traffic,
                        "busy_s": {name: time.seconds(t) for name, t in limits.items()},
                    }
                    for record in op.times:
                        start, end = _steps(record.start, n), _steps(record.end, n)
                        period = _steps(record.period, n)
                        exposed, duration = _sum(record.exposed, n), int((end - start).sum())
                        for j in range(record.copies):
                            first, final = int(start[0]) + j * int(period[0]), int(end[-1]) + j * int(period[-1])
                            rows.append(
                                {
                                    "name": f"{segment.name}/{block.label(record.first + j)}.{low.op.name}",
                                    "start_s": time.seconds(offset + first),
                                    "end_s": time.seconds(offset + last_step + final),
                                    "time_s": time.seconds(exposed),
                                    "duration_s": time.seconds(duration),
                                    **fixed,
                                }
                            )
            offset += segment.ticks
        rows.sort(key=lambda row: (row["start_s"], row["end_s"]))
        return rows

    def ops(self) -> pd.DataFrame:
        """The rows of :attr:`op_rows` as a frame."""
        import pandas as pd

        return pd.DataFrame([_flat(row) for row in self.op_rows])

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
        """A row per segment and op kind: exposed time (s), share, FLOPs, bytes, energy."""
        rows: dict[tuple[str, str], dict[str, Any]] = {}
        for row in self.op_rows:
            key = (row["name"].partition("/")[0], row["kind"])
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
            for column in ("time_s", "flops", "bytes", "energy_j"):
                total[column] += row[column]
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
        """A row per memory tier: bytes occupied at most, capacity."""
        return [
            {"memory": path, "peak_bytes": self.placement.peak_bytes[path], "capacity_bytes": memory.capacity_bytes}
            for path, memory in self.machine.memories.items()
        ]

    def segment_rows(self) -> list[dict[str, Any]]:
        """A row per phase: length (s), steps, tokens per second of the whole system."""
        rows = []
        for segment in self.segments:
            seconds = self.machine.time.seconds(segment.ticks)
            tokens = segment.tokens * segment.steps
            rows.append(
                {
                    "segment": segment.name,
                    "time_s": seconds,
                    "steps": segment.steps,
                    "step_s": seconds / segment.steps if segment.steps else 0.0,
                    "tokens": tokens,
                    "tokens_per_s": tokens / seconds if seconds else 0.0,
                }
            )
        return rows

    # -- out

    def to_json(self) -> dict[str, Any]:
        """All of it as plain data, for ``--json`` and ``result.json``."""
        from archsim.report.facts import area_blocks, machine_facts

        by_action: dict[str, float] = _grouped(
            (f"{path}.{action}", joules) for (path, action), joules in self.energy_by_action.items()
        )
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
            "why",
            "traffic",
            "busy_s",
        )
        return {
            "name": self.name,
            "digest": self.digest,
            "version": __version__,
            "machine": machine_facts(self.machine),
            "workload": {"name": self.program.name, "kind": self.spec.workload.kind, "ranks": self.program.ranks},
            "time_s": self.time_s,
            "cycles": self.cycles,
            "segments": self.segment_rows(),
            "energy_j": {"total": self.energy_j, "by_component": self.energy_by_component, "by_action": by_action},
            "area_mm2": {
                "total": self.area_mm2,
                "by_component": self.area_by_component,
                "by_block": area_blocks(self.machine),
            },
            "memory": {
                row["memory"]: {"peak_bytes": row["peak_bytes"], "capacity_bytes": row["capacity_bytes"]}
                for row in self.memory_rows()
            },
            "bound_by": self.bound_by,
            "critical_path": {
                name: {
                    "time_s": seconds,
                    "run_s_if_twice_as_fast": self.what_if_s[name],
                    "speedup_if_twice_as_fast": self.time_s / self.what_if_s[name] if self.what_if_s[name] else 1.0,
                }
                for name, seconds in self.time_by_bound.items()
            },
            "components": self.component_rows(),
            "notes": list(self.program.notes),
            "ops": [{column: row[column] for column in columns} for row in self.op_rows],
        }

    def write(self, folder: Path) -> None:
        """Write ``result.json``, the tables, the resolved config, the timeline and the report into ``folder``.

        Raises
        ------
        RunFailed: the disk is full or the folder cannot be written to; nothing of the result is left there.
        """
        from archsim.report import html, timeline

        document, trace = self.to_json(), timeline.to_perfetto(self)
        texts = {
            "result.json": json.dumps(document, indent=1, allow_nan=False) + "\n",
            "config.yaml": to_yaml(self.spec),
            "timeline.json": trace,
            "report.html": html.to_page(document, json.loads(trace)),
        }
        for name, rows in (
            ("ops", [_flat(row) for row in self.op_rows]),
            ("components", self.component_rows()),
            ("kinds", self.kind_rows()),
            ("memory", self.memory_rows()),
            ("segments", self.segment_rows()),
        ):
            texts[f"{name}.csv"] = csv_text(rows)
        write_texts(folder, texts)

    def print(self, console: Console) -> None:
        """The answer as tables on a terminal."""
        from archsim.report import terminal

        terminal.show(self, console)

    def _repr_html_(self) -> str:
        from archsim.report import notebook

        return notebook.to_html(self)

    def __str__(self) -> str:
        from archsim.units import si

        return (
            f"{self.name}: {si(self.time_s, 's', 4)}, {si(self.energy_j, 'J')}, {self.area_mm2:.1f} mm2, "
            f"bound by {self.bound_by}"
        )


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """A row without nested columns: ``traffic`` becomes ``traffic.chip.hbm`` and so on."""
    flat: dict[str, Any] = {}
    for column, value in row.items():
        if isinstance(value, dict):
            flat |= {f"{column}.{key}": entry for key, entry in value.items()}
        else:
            flat[column] = value
    return flat


def _grouped(items: Any) -> dict[str, float]:
    groups: dict[str, float] = defaultdict(float)
    for key, value in items:
        groups[key] += value
    return dict(groups)
