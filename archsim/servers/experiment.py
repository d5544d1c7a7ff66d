"""A row of servers as an experiment: its policy beside others, on the same requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from archsim.experiment import ExperimentSpec, Findings
from archsim.servers.phases import Phases, phases
from archsim.servers.picture import picture
from archsim.servers.row import WARM_S, Played, clocks_hz, play
from archsim.servers.spec import RowSpec


class ServerRow:
    """Plays a row."""

    Spec: ClassVar[type[ExperimentSpec]] = RowSpec

    def __init__(self, spec: RowSpec) -> None:
        self.spec = spec

    def findings(self, progress: Callable[[str], None] | None = None) -> Findings:
        """A row of figures for each policy, phases at each clock, and pictures of the power."""
        spec, tell = self.spec, progress or (lambda line: None)
        policies = {spec.policy.kind.replace("_", " "): spec.policy, **spec.compare}
        clocks = clocks_hz(spec, list(policies.values()))
        tell("phases at each clock")
        of = phases(spec, clocks)
        played = {}
        for name, policy in policies.items():
            tell(f"{spec.days} days under {name}")
            played[name] = play(spec, policy, of, clocks)
        rows = compared(spec, played)
        table = phase_rows(spec, of, clocks)
        lines = [
            f"{spec.name}: {spec.servers} servers on a feed for {spec.provisioned}, {spec.days} days",
            *(f"{r['policy']}: peak {r['peak']:.1%} of the limit, brake pulled {r['brakes']} times" for r in rows),
        ]
        drawn = picture(
            {name: one.power for name, one in played.items()},
            spec.telemetry / 1e12,
            WARM_S,
            spec.policy.thresholds,
        )
        tables: dict[str, list[dict[str, Any]]] = {"policies": rows, "phases": table}
        document = {"policies": rows, "phases": table, "idle_w": of.idle_w}
        return Findings(spec, lines, tables, document, {"power": drawn})


def compared(spec: RowSpec, played: dict[str, Played]) -> list[dict[str, Any]]:
    """Figures of each policy, beside those of a row that nobody slows down where it was played (``no policy``)."""
    free = next((one for name, one in played.items() if name == "no policy"), None)
    window = round(spec.command / spec.telemetry)
    rows = []
    for name, one in played.items():
        row = {
            "policy": name,
            "peak": float(one.power.max()),
            "mean": float(one.power.mean()),
            "rise": one.rise(window),
            "over_s": over_s(one, spec),
            "brakes": one.brakes,
            "commands": one.commands,
            "slowed": one.slowed,
            "low_p50_s": one.latency_s[0],
            "high_p50_s": one.latency_s[1],
        }
        if free is not None:
            for group, which in enumerate(("low", "high")):
                row[f"{which}_p50_change"] = one.latency_s[group] / free.latency_s[group] - 1
                row[f"{which}_done_change"] = one.done[group] / free.done[group] - 1
        rows.append(row)
    return rows


def over_s(played: Played, spec: RowSpec) -> float:
    """The longest time for which readings lay above the limit, s."""
    edges = np.diff(np.concatenate([[0], (played.power > 1).astype(np.int8), [0]]))
    begins, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    return float((ends - begins).max(initial=0)) * spec.telemetry / 1e12


def phase_rows(spec: RowSpec, of: Phases, clocks: list[int]) -> list[dict[str, Any]]:
    """The phases of each kind of request at each clock, and the most that a meter of GPUs reads."""
    return [
        {
            "request": name,
            "clock_mhz": clock / 1e6 if clock else "full",
            "prompt_s": float(of.prompt_s[i, j]),
            "prompt_w": float(of.prompt_w[i, j]),
            "token_s": float(of.token_s[i, j]),
            "token_w": float(of.token_w[i, j]),
            "metered_peak_w": of.metered_w(i, j),
        }
        for i, name in enumerate(spec.requests)
        for j, clock in enumerate(clocks)
    ]
