"""All ways to cut a step of training over GPUs: those that fit, by time, and why the others lose."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from archsim.errors import InputError, Problem
from archsim.training.held import held
from archsim.training.pipeline import in_flight
from archsim.training.setup import Setup, dealt
from archsim.training.step import Step, learn, least_ps, step
from archsim.training.timer import PS
from archsim.workloads.model import ModelSpec
from archsim.workloads.step.cut import Cut, divisors, problems_of

_MICRO_BATCHES = (1, 2, 4, 8, 16)
_VIRTUAL = (1, 2, 3, 4, 5, 6, 8, 12)
_MOST_STAGES = 128
_WORTH = 1.15  # of the best time: plans whose slowest stage computes longer are not played


@dataclass(frozen=True)
class Plan:
    """A way to train.

    Attributes
    ----------
    found: None where it does not fit, or cannot be among the best. over_bytes: by which it does not fit. largest: what
    takes most of its memory. least_ps: bound of its time.
    """

    setup: Setup
    found: Step | None
    needed_bytes: int
    over_bytes: int
    largest: str
    least_ps: int = 0

    @property
    def ps(self) -> int:
        """Of a step, or its bound; endless where it does not fit."""
        if self.over_bytes > 0:
            return 2**62
        return self.found.ps if self.found is not None else self.least_ps

    def row(self, best: Plan | None) -> dict[str, Any]:
        """The plan as a row of a table, and why it is not the best."""
        cut, found = self.setup.cut, self.found
        row: dict[str, Any] = {
            "tp": cut.tensor,
            "pp": cut.pipeline,
            "vp": cut.virtual,
            "cp": cut.context,
            "dp": cut.data,
            "ep": cut.experts,
            "micro_batch": cut.micro_batch,
            "recompute": self.setup.recompute,
            "zero": cut.shards,
            "peak_memory_bytes": self.needed_bytes,
        }
        if found is None:
            why = self.misfit() if self.over_bytes > 0 else self.hopeless(best)
            return {**row, "iteration_ms": None, "tokens_per_s_per_gpu": None, "mfu_pct": None, "why": why}
        seconds = found.seconds
        row["iteration_ms"] = 1e3 * seconds
        row["tokens_per_s_per_gpu"] = cut.sequences * self.setup.seq / cut.gpus / seconds
        row["mfu_pct"] = 100 * found.model_flops / seconds / self.setup.timer.peak_flops(self.setup.dtype)
        row["why"] = "the fastest that fits" if best is self else self.behind(best)
        return row

    def misfit(self) -> str:
        """By how much it does not fit, and what would help."""
        return f"does not fit: {self.over_bytes / 1e9:.1f} GB over, most in {self.largest}; {self.remedy()}"

    def hopeless(self, best: Plan | None) -> str:
        """By how much it loses at least."""
        more = 0.0 if best is None else 100 * (self.least_ps / best.ps - 1)
        return f"at least +{more:.1f}%: its slowest stage alone computes {self.least_ps / PS * 1e3:.0f} ms"

    def remedy(self) -> str:
        """What would make it smaller."""
        cut = self.setup.cut
        if self.largest == "activations":
            if self.setup.recompute != "full":
                return "recompute more"
            return "smaller micro-batches" if cut.micro_batch > 1 else "more tensor-parallel ranks"
        return "shard the optimizer (zero 1)" if cut.shards == 0 and cut.data > 1 else "more stages or tensor ranks"

    def behind(self, best: Plan | None) -> str:
        """Which parts of its time are longer than the best one's."""
        if best is None or best.found is None or self.found is None:
            return ""
        more = {
            name: self.found.parts.get(name, 0) - best.found.parts.get(name, 0)
            for name in {*self.found.parts, *best.found.parts}
        }
        most = sorted(more.items(), key=lambda item: (-item[1], item[0]))[:2]
        told = ", ".join(f"{name} +{ps / PS * 1e3:.0f} ms" for name, ps in most if ps > 0)
        return f"+{100 * (self.ps / best.ps - 1):.1f}%: {told}"


def cuts(model: ModelSpec, gpus: int, sequences: int, seq: int, shared: bool, shards: int) -> Iterator[Cut]:
    """All legal cuts."""
    for tensor in divisors(gpus):
        if model.heads % tensor or tensor > 64:
            continue
        for pipeline in divisors(gpus // tensor):
            if pipeline > min(model.layers, _MOST_STAGES):
                continue
            for context in _contexts(gpus // tensor // pipeline, seq):
                data = gpus // tensor // pipeline // context
                yield from _of_degrees(model, sequences, seq, shared, shards, (tensor, pipeline, context, data))


def _of_degrees(
    model: ModelSpec, sequences: int, seq: int, shared: bool, shards: int, degrees: tuple[int, int, int, int]
) -> Iterator[Cut]:
    tensor, pipeline, context, data = degrees
    experts = [1] if model.moe is None else [e for e in divisors(model.moe.experts) if e <= data * context * tensor]
    for micro_batch in _MICRO_BATCHES:
        for virtual in _VIRTUAL if pipeline > 1 else (1,):
            for ep in experts:
                cut = Cut(
                    sequences,
                    micro_batch,
                    tensor=tensor,
                    context=context,
                    pipeline=pipeline,
                    data=data,
                    experts=ep,
                    virtual=virtual,
                    shards=shards,
                    sequence_parallel=shared and tensor > 1,
                )
                whole = virtual == 1 or model.layers % (pipeline * virtual) == 0
                if whole and not any(problems_of(cut, model, seq)):
                    yield cut


def _contexts(size: int, seq: int) -> list[int]:
    """Context-parallel ranks are for sequences of more than 8,192 tokens each."""
    return [d for d in divisors(size) if d == 1 or seq // d >= 8192]


def plans(setup: Setup, gpus: int, progress: Callable[[int, int, str], None] | None = None) -> list[Plan]:
    """All plans for what a setup trains, the best first; those that do not fit last, by what they lack.

    Parameters
    ----------
    setup: of whose cut only the sequences count. gpus: to use.

    Raises
    ------
    InputError: there is no legal plan, or the machine is a lone node of fewer GPUs.
    """
    cut, framework, fabric = setup.cut, setup.framework, setup.fabric
    if not fabric.port_bytes_per_s and gpus > fabric.node:
        raise InputError([Problem(f"the machine is one node of {fabric.node} GPUs, not {gpus}", path="gpus")])
    stages = sorted({framework.shards, 1 if framework.shards == 0 else framework.shards})
    asked = [
        replace(setup, cut=one, recompute=recompute)
        for shards in stages
        for one in cuts(setup.model, gpus, cut.sequences, setup.seq, framework.sequence_parallel, shards)
        for recompute in (("none", "selective", "full") if framework.attention == "unfused" else ("none", "full"))
    ]
    if not asked:
        raise InputError(f"no legal plan cuts '{setup.model.name}' over {gpus} GPUs: other degrees or another batch")
    made = [_checked(one) for one in asked]
    fit = [plan for plan in made if plan.over_bytes <= 0]
    learn(plan.setup for plan in fit)
    fit = sorted((replace(plan, least_ps=least_ps(plan.setup)) for plan in fit), key=lambda plan: plan.least_ps)
    best, done = 2**62, list[Plan]()
    for number, plan in enumerate(fit):
        if progress is not None and number % 20 == 0:
            progress(number, len(fit), "plans")
        if plan.least_ps < best * _WORTH:
            plan = replace(plan, found=step(plan.setup))
            best = min(best, plan.ps)
        done.append(plan)
    return sorted([*done, *(plan for plan in made if plan.over_bytes > 0)], key=lambda p: (p.ps, p.over_bytes))


def _checked(setup: Setup) -> Plan:
    """A plan whose memory is known: of its first and its last stage."""
    cut, deal = setup.cut, dealt(setup.model, setup.cut)
    flying = in_flight(cut.schedule, cut.pipeline, cut.virtual, cut.micro_batches)
    fullest = max((held(setup, deal[s], flying[s]) for s in {0, cut.pipeline - 1}), key=lambda one: one.total)
    parts: Mapping[str, int] = {
        "weights": fullest.weights,
        "gradients": fullest.gradients,
        "optimizer": fullest.optimizer,
        "activations": fullest.activations + fullest.buffers,
    }
    largest = max(parts, key=lambda name: parts[name])
    return Plan(setup, None, fullest.total, fullest.total - setup.timer.memory_bytes, largest)
