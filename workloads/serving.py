"""Requests served by one engine with continuous batching: when each has its first token, and its last.

The engine is a group of tensor-parallel ranks with one scheduler (:mod:`archsim.workloads.scheduler`), or as many as it
has stages of a pipeline (:mod:`archsim.workloads.engine_source`). A scheduler is
asked when an iteration has ended, or when a request arrives while nothing runs; what it chooses is one pass through the
model with sequences of different lengths (:mod:`archsim.workloads.ragged`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import model_validator

from archsim.config import Named
from archsim.errors import InputError
from archsim.spec import Count, WorkloadSpec
from archsim.workloads.arrivals import RequestsSpec
from archsim.workloads.deployed import Deployed
from archsim.workloads.engine_source import EngineSource, PipelineSource
from archsim.workloads.engine_spec import EngineSpec, HostSpec
from archsim.workloads.formats import ANYTHING, MachineFormats
from archsim.workloads.front_end import FrontEnd
from archsim.workloads.kv_blocks import BLOCK_TOKENS
from archsim.workloads.mixture_of_experts import RoutingSpec
from archsim.workloads.model import ModelSpec, language_model
from archsim.workloads.op import DType
from archsim.workloads.plan import Plan
from archsim.workloads.requests import Request
from archsim.workloads.sources import Arrivals, Workflows
from archsim.workloads.task import Job
from archsim.workloads.transformer_spec import TransformerSpec


class ServingSpec(WorkloadSpec):
    """Requests served by an engine with continuous batching."""

    kind: Literal["serving"] = "serving"
    model: Annotated[ModelSpec, Named("models")]
    """a shipped model, a file of ours, or a Hugging Face config.json"""
    requests: RequestsSpec
    """who asks for what, and when"""
    engine: Annotated[EngineSpec, Named("engines")] = EngineSpec()
    """how the engine is set: a shipped one, a file, or in full"""
    dtype: DType | Literal["auto"] = "auto"
    """format of weights, KV cache and activations; auto takes the widest of bf16, int8 and int4 in which they fit"""
    weight_dtype: DType | None = None
    """format of the weights, where it differs"""
    activation_dtype: DType | None = None
    """format of the activations, where it differs"""
    kv_dtype: DType | None = None
    """format of the KV cache, where it differs"""
    tensor_parallel: Count = 1
    """ranks that share each layer"""
    pipeline_parallel: Count = 1
    """stages of layers, each on ranks of its own; as many engines share them, with an iteration of each in flight"""
    routing: RoutingSpec = RoutingSpec()
    """how tokens are spread over experts"""

    @model_validator(mode="after")
    def _check(self) -> ServingSpec:
        if self.model.encoder is not None:
            raise ValueError(f"'{self.model.name}' is an encoder: decoders are served")
        language_model(self.model)
        return self


class ServingWorkload:
    """An engine and its requests as a job."""

    Spec: ClassVar[type[ServingSpec]] = ServingSpec

    def __init__(self, spec: ServingSpec) -> None:
        self.spec = spec
        self.inference = TransformerSpec(
            model=spec.model,
            input=1,
            output=2,
            dtype=spec.dtype,
            weight_dtype=spec.weight_dtype,
            activation_dtype=spec.activation_dtype,
            kv_dtype=spec.kv_dtype,
            tensor_parallel=spec.tensor_parallel,
            routing=spec.routing,
        )

    def program(self, capacity_bytes: int | None = None, formats: MachineFormats = ANYTHING) -> Plan:
        """The plan of the engine's ranks.

        Parameters
        ----------
        capacity_bytes: memory of a rank. formats: what the machine computes with.

        Raises
        ------
        InputError: the model does not divide among the ranks or does not fit, a request that could never run, a file
            that is wrong.
        """
        spec, ranks = self.spec, self.spec.tensor_parallel
        requests = spec.requests.requests()
        longest = max(r.input + r.output - 1 for r in requests)
        stages = spec.pipeline_parallel
        deployed = Deployed(self.inference, spec.engine, capacity_bytes, formats, longest, stages)
        for number, request in enumerate(requests):
            if why := deployed.refusal(request):
                raise InputError(f"request {number} can never run: {why}")
        pieces = [deployed.pieces(ranks, number) for number in range(stages)]

        def source() -> EngineSource | PipelineSource:
            coming = Arrivals(Workflows(requests, spec.requests.concurrency), FrontEnd(deployed).served)
            if stages == 1:
                return EngineSource(coming, deployed.started(), pieces[0], requests.steps)
            return PipelineSource(coming, [deployed.started() for _ in pieces], pieces, ranks, requests.steps)

        title = f"serving {spec.model.name}"
        notes = self._notes(deployed, requests)
        classes = {number * ranks: range(number * ranks, (number + 1) * ranks) for number in range(stages)}
        held = {number * ranks: held for number, held in enumerate(deployed.held)}
        return Plan(title, Job(title, (), classes, source), held, notes)

    def _notes(self, deployed: Deployed, requests: Sequence[Request]) -> tuple[str, ...]:
        spec, engine = self.spec, self.spec.engine
        taken = "reserved for the whole answer when a request is admitted: nobody is preempted"
        if not engine.reserves:
            then = "begins again" if engine.preemption == "recompute" else f"has its cache moved to {engine.kv_tier}"
            taken = f"taken as they are needed; who came last is preempted when there are none, and {then}"
        notes = [
            f"{len(requests):,} requests, first come, first served; {engine.scheduling().how()}",
            f"{deployed.ops.formats}; a KV cache of {deployed.blocks:,} blocks of {BLOCK_TOKENS} tokens"
            f"{'' if spec.pipeline_parallel == 1 else ' an engine'}, {taken}",
            "sequences that decode are counted at their mean length in whole blocks, tokens of an iteration padded to "
            "those of a captured graph",
        ]
        if engine.host == HostSpec():
            notes.append("an engine takes no time to schedule, beside the launches of its chip")
        longest = max(r.input + r.output for r in requests)
        if longest > spec.model.max_positions:
            notes.append(
                f"sequences of {longest} tokens are longer than the {spec.model.max_positions} positions that "
                f"'{spec.model.name}' was made for"
            )
        return tuple(notes)
