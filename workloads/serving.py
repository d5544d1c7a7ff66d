"""Requests served by one engine with continuous batching: when each has its first token, and its last.

The engine is a group of tensor-parallel ranks with one scheduler (:mod:`archsim.workloads.scheduler`). The scheduler is
asked when an iteration has ended, or when a request arrives while nothing runs; what it chooses is one pass through the
model with sequences of different lengths (:mod:`archsim.workloads.ragged`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

from pydantic import model_validator

from archsim.config import Named
from archsim.errors import InputError
from archsim.spec import Count, WorkloadSpec
from archsim.units import si
from archsim.workloads.answer import Answer
from archsim.workloads.arrivals import RequestsSpec
from archsim.workloads.engine import Engine
from archsim.workloads.engine_spec import EngineSpec, HostSpec
from archsim.workloads.formats import ANYTHING, Formats, MachineFormats
from archsim.workloads.iteration import OneDraw, Pieces
from archsim.workloads.kv_blocks import BLOCK_TOKENS, blocks_of
from archsim.workloads.mixture_of_experts import RoutingSpec
from archsim.workloads.model import ModelSpec
from archsim.workloads.op import DType, Role
from archsim.workloads.passes import Pass
from archsim.workloads.plan import Holdings, Plan
from archsim.workloads.requests import Request
from archsim.workloads.scheduler import Iteration, Served
from archsim.workloads.served import answer_of
from archsim.workloads.task import Done, Job, Task
from archsim.workloads.transformer import TransformerWorkload
from archsim.workloads.transformer_rank import RankOps
from archsim.workloads.transformer_spec import TransformerSpec, check_parallel

_UNBOUNDED = 2**40  # blocks of a machine of which no memory size is known


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
    routing: RoutingSpec = RoutingSpec()
    """how tokens are spread over experts"""

    @model_validator(mode="after")
    def _check(self) -> ServingSpec:
        if self.model.encoder is not None:
            raise ValueError(f"'{self.model.name}' is an encoder: decoders are served")
        return self


class EngineSource:
    """An engine as a source of tasks: an iteration is one.

    Parameters
    ----------
    requests: in the order of their arrivals. pieces: iterations as ops.
    """

    def __init__(self, requests: Sequence[Served], engine: Engine, pieces: Pieces) -> None:
        self.engine = engine
        self.coming = deque(requests)
        self._pieces = pieces
        self._running: tuple[Iteration, int] | None = None

    def tasks(self, now_ps: int, done: Sequence[Done]) -> tuple[Sequence[Task], int | None]:
        """The next iteration, when the one before has ended; when to ask again while there is nothing to do.

        What is chosen again while nobody arrives is given at once, until the next arrival.
        """
        while self.coming and self.coming[0].seen_ps <= now_ps:
            self.engine.submit(self.coming.popleft())
        if self._running is not None:
            if not done:
                return (), None
            self.engine.ended(*self._running, done[0].ends_ps)
        arrival_ps = self.coming[0].seen_ps if self.coming else None
        iteration = self.engine.next(now_ps)
        if iteration is None:
            self._running = None
            return (), arrival_ps
        self._running = iteration, now_ps
        keys = iteration.keys() if iteration.decodes else None
        segment = self._pieces.of(iteration.shape(), keys, iteration.tokens)
        until_ps = None if iteration.patient else arrival_ps
        return (Task(0, "engine", segment.name, segment, until_ps=until_ps),), None

    def answers(self) -> Sequence[Answer]:
        """How each request fared."""
        return (answer_of([self.engine]),)


class Deployed:
    """A model on the ranks of an engine: its ops, what a rank keeps, and the blocks of its cache.

    Parameters
    ----------
    inference: the model, and how it is cut. engine: how the engine is set. capacity_bytes: memory of a rank.
    formats: what the machine computes with. longest: tokens of the longest request.

    Attributes
    ----------
    ops: of a rank. held: what it keeps. blocks, tier_blocks: of its cache, and in the farther memory.

    Raises
    ------
    InputError: the model does not divide among the ranks, or attention reads no such cache.
    """

    def __init__(
        self,
        inference: TransformerSpec,
        engine: EngineSpec,
        capacity_bytes: int | None,
        formats: MachineFormats,
        longest: int,
    ) -> None:
        check_parallel(inference)
        self.inference, self.engine, self.capacity_bytes, self.longest = inference, engine, capacity_bytes, longest
        for choice in TransformerWorkload(inference).wanted(formats).choices(formats):
            if choice.kv not in formats.cached:
                reads = ", ".join(formats.cached)
                raise InputError(f"kv_dtype {choice.kv}: attention on this machine reads a KV cache in {reads}")
            self._hold(choice)
            if self.blocks >= blocks_of(longest):
                break

    def _hold(self, formats: Formats) -> None:
        model, engine = self.inference.model, self.engine
        router = None
        if model.moe is not None:
            sparse = model.layers - model.dense_layers
            router = OneDraw(self.inference.routing, model.moe, sparse, self.inference.seed)
        self.ops = ops = RankOps(self.inference, formats, router)
        tokens, sequences = engine.max_num_batched_tokens, engine.max_num_seqs
        segments = (
            ops.segment(Pass("prefill", 0, 1, tokens, tokens)),
            ops.segment(Pass("decode", 0, sequences, 1, self.longest, absorbed=True)),
        )
        if engine.drafting_layers:
            drafts = ops.prediction(Pass("draft", 0, sequences, 1, self.longest, absorbed=True))
            segments = (segments[0], replace(segments[1], blocks=(*segments[1].blocks, drafts)))
        weights, live = ops.weight_bytes(segments[-1]), ops.activation_bytes(segments, tokens)
        self.blocks = _UNBOUNDED
        block_bytes = ops.kv_bytes([(1, BLOCK_TOKENS)], engine.drafting_layers)
        if self.capacity_bytes is not None:
            room = int(engine.memory_share * self.capacity_bytes) - weights - live
            self.blocks = max(0, room // block_bytes)
        if engine.kv_blocks is not None:
            self.blocks = engine.kv_blocks
        held = {Role.WEIGHT: weights, Role.KV: self.blocks * block_bytes}
        farther = {} if engine.kv_tier is None else {engine.kv_tier: engine.kv_tier_bytes}
        self.block_bytes, self.tier_blocks = block_bytes, sum(farther.values()) // block_bytes
        self.held = Holdings(f"serving {model.name}", held, farther, activation_bytes=live)

    def pieces(self, ranks: int) -> Pieces:
        """Iterations as ops."""
        engine = self.engine
        drafts = engine.speculative().drafts * engine.drafting_layers
        return Pieces(
            self.ops,
            lambda shape: engine.host.ps(shape, ranks),
            engine.sampling_ops,
            engine.fuses_norms,
            drafts,
            engine.kv_tier or "",
            self.block_bytes,
        )

    def under(self, engine: EngineSpec) -> Deployed:
        """The same under other settings; the cache stays as large, where they do not say."""
        other = copy(self)
        other.engine = engine
        other.blocks = engine.kv_blocks or self.blocks
        return other

    def started(self) -> Engine:
        """An engine with nothing to do."""
        return Engine(self.engine.limits(self.blocks, self.tier_blocks), self.engine.scheduling())

    def served(self, number: int, request: Request) -> Served:
        """A request that has not arrived yet."""
        seen_ps = request.arrival_ps + self.engine.host.request
        return Served(number, request.arrival_ps, request.input, request.output, request.contents, seen_ps)

    def refusal(self, request: Request) -> str:
        """Why a request can never run; "" where it can."""
        most = self.engine.max_num_batched_tokens
        if self.engine.whole_prompts and request.input > most:
            return (
                f"its prompt of {request.input} tokens is more than max_num_batched_tokens {most}, and prompts are "
                "computed whole without 'chunk'"
            )
        need = blocks_of(request.input + request.output - 1 + self.engine.speculative().drafts)
        if need <= self.blocks:
            return ""
        rest = self.held.resident_bytes[Role.WEIGHT] + self.held.activation_bytes
        return (
            f"{request.input} + {request.output} tokens need {need} blocks of {BLOCK_TOKENS}, and the KV cache has "
            f"{self.blocks} beside {si(rest, 'B', 4)} of weights and activations in {self.engine.memory_share:g} of "
            f"{si(self.capacity_bytes or 0, 'B', 4)}"
        )


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
        deployed = Deployed(self.inference, spec.engine, capacity_bytes, formats, longest)
        for number, request in enumerate(requests):
            if why := deployed.refusal(request):
                raise InputError(f"request {number} can never run: {why}")
        pieces = deployed.pieces(ranks)

        def source() -> EngineSource:
            served = [deployed.served(n, r) for n, r in enumerate(requests)]
            return EngineSource(served, deployed.started(), pieces)

        title = f"serving {spec.model.name}"
        notes = self._notes(deployed, requests)
        return Plan(title, Job(title, (), {0: range(ranks)}, source), {0: deployed.held}, notes)

    def _notes(self, deployed: Deployed, requests: Sequence[Request]) -> tuple[str, ...]:
        spec, engine = self.spec, self.spec.engine
        taken = "reserved for the whole answer when a request is admitted: nobody is preempted"
        if not engine.reserves:
            then = "begins again" if engine.preemption == "recompute" else f"has its cache moved to {engine.kv_tier}"
            taken = f"taken as they are needed; who came last is preempted when there are none, and {then}"
        notes = [
            f"{len(requests):,} requests, first come, first served; {engine.how()}",
            f"{deployed.ops.formats}; a KV cache of {deployed.blocks:,} blocks of {BLOCK_TOKENS} tokens, {taken}",
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
