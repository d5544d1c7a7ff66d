"""A data acquisition as an experiment: by rates, by events where that is asked, and its alternatives."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from archsim.components.acquisition.events import Played, by_events
from archsim.components.acquisition.picture import picture
from archsim.components.acquisition.rates import Stage, by_rates, power_w, skill
from archsim.components.acquisition.spec import AcquisitionSpec
from archsim.config import load_spec, tree_of
from archsim.errors import InputError
from archsim.experiment import ExperimentSpec, Findings
from archsim.units import si


class Acquisition:
    """Carries an acquisition out."""

    Spec: ClassVar[type[ExperimentSpec]] = AcquisitionSpec

    def __init__(self, spec: AcquisitionSpec) -> None:
        self.spec = spec

    def findings(self, progress: Callable[[str], None] | None = None) -> Findings:
        """Rates of every stage, the events if they are played, and a row for each combination of alternatives.

        Raises
        ------
        InputError: an alternative names a path that is not there, or a value that is not possible.
        """
        spec, tell = self.spec, progress or (lambda line: None)
        tell("by rates")
        stages = by_rates(spec)
        answer = figures(spec, stages)
        tables: dict[str, list[dict[str, Any]]] = {"stages": [row(stage) for stage in stages.values()]}
        lines = [f"{spec.name}: {si(answer['power_w'], 'W')}, {si(answer['stored_bytes_per_s'], 'B/s')} stored"]
        if "productivity_per_kj" in answer:
            told = f"precision {answer['precision']:.3g}, recall {answer['recall']:.3g}, F1 {answer['f1']:.3g}"
            lines.append(f"{told}; {answer['productivity_per_kj']:.4g} relevant samples per kJ")
        if spec.scaling is not None:
            lines.append(f"energies of {spec.scaling.from_year} divided by {spec.scaling.divisor:.4g}")
        document: dict[str, Any] = {"by_rates": answer, "stages": tables["stages"]}
        if any(changes is not None for changes in spec.alternatives.values()):
            tell("alternatives")
            tables["alternatives"] = list(self.alternatives(answer["power_w"]))
            document["alternatives"] = tables["alternatives"]
        if spec.events is not None:
            tell(f"playing {spec.events.count:,} events")
            played = by_events(spec, spec.events)
            document["by_events"] = told_of(played)
            rows = [vars(passage) for passage in played.passages.values()]
            bytes_of = [name for name in rows[0] if name.endswith("_bytes")]
            tables["events"] = [{k: v for k, v in one.items() if k not in bytes_of} for one in rows]
            tables["bytes of events"] = [{k: v for k, v in one.items() if k in ("name", *bytes_of)} for one in rows]
            lines.append(
                f"{spec.events.count:,} events (seed {spec.events.seed}): {si(played.power_w, 'W')}, "
                f"{played.latency_ps.size:,} stored, {document['by_events']['lost']:,} lost"
            )
        drawn = picture(spec, stages)
        return Findings(spec, lines, tables, document, {"flow": drawn})

    def alternatives(self, power: float) -> Iterator[dict[str, Any]]:
        """Each alternative and each combination of several, with what it saves."""
        alternatives = {name: changes for name, changes in self.spec.alternatives.items() if changes is not None}
        names = list(alternatives)
        plain = self.spec.model_dump(mode="json", exclude_unset=True)
        for size in range(1, len(names) + 1):
            for chosen in itertools.combinations(names, size):
                changes = {path: value for name in chosen for path, value in alternatives[name].items()}
                try:
                    other = load_spec(tree_of(plain), AcquisitionSpec, changes)
                except InputError as error:
                    raise InputError(f"alternatives.{'+'.join(chosen)}: {error}") from None
                answer = figures(other, by_rates(other))
                yield {"alternative": " + ".join(chosen), **answer, "saved": 1 - answer["power_w"] / power}


def figures(spec: AcquisitionSpec, stages: Mapping[str, Stage]) -> dict[str, float]:
    """The figures of the whole."""
    total = power_w(dict(stages))
    storage = next(stage for stage in stages.values() if stage.kind == "storage")
    answer = {
        "power_w": total,
        "work_w": sum(stage.work_w for stage in stages.values()),
        "link_w": sum(stage.link_w for stage in stages.values()),
        "stored_per_s": storage.events_per_s,
        "stored_bytes_per_s": storage.in_bytes_per_s,
    }
    skilled = skill(spec)
    if skilled is not None:
        answer |= {
            "precision": skilled.precision,
            "recall": skilled.recall,
            "f1": skilled.f1,
            "productivity_per_kj": skilled.f1 * skilled.kept_per_s / (total / 1e3),
        }
    return answer


def row(stage: Stage) -> dict[str, Any]:
    """A stage as a row of a table."""
    return {
        "stage": stage.name,
        "kind": stage.kind,
        "events_per_s": stage.events_per_s,
        "bytes_per_event": stage.bytes,
        "in_bytes_per_s": stage.in_bytes_per_s,
        "kept": stage.kept,
        "out_bytes_per_s": stage.out_bytes_per_s,
        "operations_per_event": stage.operations,
        "work_w": stage.work_w,
        "link_w": stage.link_w,
    }


def told_of(played: Played) -> dict[str, Any]:
    """What came of the events, in figures."""
    latency = played.latency_ps
    told: dict[str, Any] = {
        "power_w": played.power_w,
        "seconds": played.seconds,
        "stored": int(latency.size),
        "lost": sum(p.lost + p.incomplete + p.link_lost for p in played.passages.values()),
    }
    if latency.size:
        told |= {f"latency_p{q}_ps": float(np.percentile(latency, q)) for q in (50, 90, 99)}
        told |= {"latency_mean_ps": float(latency.mean()), "latency_max_ps": int(latency.max())}
    return told
