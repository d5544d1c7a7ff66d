"""Requests served by one engine with continuous batching: when each has its first token, and its last.

The engine is a group of tensor-parallel ranks with one scheduler (:mod:`archsim.workloads.scheduler`). The scheduler is
asked when an iteration has ended, or when a request arrives while nothing runs; what it chooses is one pass through the
model with sequences of different lengths (:mod:`archsim.workloads.ragged`).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

from pydantic import model_validator

from archsim.config import Named
from archsim.errors import InputError
from archsim.spec import Count, Share, WorkloadSpec
from archsim.units import si
from archsim.workloads.answer import Answer
from archsim.workloads.arrivals import RequestsSpec
from archsim.workloads.formats import ANYTHING, Formats, MachineFormats
from archsim.workloads.kv_blocks import BLOCK_TOKENS, blocks_of
from archsim.workloads.mixture_of_experts import Router, RoutingSpec
from archsim.workloads.model import ModelSpec
from archsim.workloads.op import Attention, DType, Role
from archsim.workloads.passes import Pass
from archsim.workloads.plan import Holdings, Plan
from archsim.workloads.program import Block, Segment
from archsim.workloads.ragged import Ragged
from archsim.workloads.requests import Request
from archsim.workloads.scheduler import Chunked, Iteration, Limits, Policy, PromptsFirst, Scheduler, Served
from archsim.workloads.served import answer_of
from archsim.workloads.task import Done, Job, Task
from archsim.workloads.transformer import RankOps, TransformerSpec, TransformerWorkload, check_parallel

_UNBOUNDED = 2**40  # blocks of a machine of which no memory size is known


class ServingSpec(WorkloadSpec):
    """Requests served by an engine with continuous batching."""

    kind: Literal["serving"] = "serving"
    model: Annotated[ModelSpec, Named("models")]
    """a shipped model, a file of ours, or a Hugging Face config.json"""
    requests: RequestsSpec
    """who asks for what, and when"""
    max_num_seqs: Count = 256
    """sequences that run at a time"""
    max_num_batched_tokens: Count = 8192
    """new tokens of an iteration at most"""
    chunk: Count | None = None
    """chunked prefill: tokens of prompts that an iteration computes beside decoding, at most; when absent prompts are
    computed whole, before answers go on"""
    memory_share: Share = 0.9
    """part of the memory that weights, activations and KV cache fill, as vLLM's gpu_memory_utilization"""
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
        if self.max_num_seqs > self.max_num_batched_tokens:
            raise ValueError(
                f"max_num_seqs {self.max_num_seqs} sequences decode together, more than max_num_batched_tokens "
                f"{self.max_num_batched_tokens}"
            )
        if self.chunk is not None and self.model.mla is not None:
            raise ValueError(
                f"'{self.model.name}' has latent attention, which prompts and answers compute in different forms: "
                "leave chunk out"
            )
        return self


class _Pieces:
    """Iterations as segments. All ops but attention depend on the sums of an iteration only, and are made once."""

    def __init__(self, ops: RankOps) -> None:
        self.ops = ops
        self._known: dict[tuple[object, ...], Segment] = {}

    def of(self, iteration: Iteration) -> Segment:
        """An iteration as steps of a rank."""
        steps = iteration.steps
        name = "decode" if not iteration.prompts else "mixed" if iteration.decodes else "prefill"
        keys = Counter((1, request.cached + 1) for request in iteration.decodes)
        keys.update((tokens, request.cached + tokens) for request, tokens in iteration.prompts)
        ragged = Ragged.of([(n, queries, seen, steps) for (queries, seen), n in keys.items()], steps)
        step = Pass.of(name, int(name == "decode"), ragged, absorbed=name == "decode")
        latent = self.ops.model.mla is not None and not step.absorbed  # keys of before are made anew
        key = name, step.tokens, step.sequences, step.cached if latent else 0
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self.ops.segment(step)
        return replace(known, steps=steps, blocks=tuple(_attending(block, step) for block in known.blocks))


def _attending(block: Block, step: Pass) -> Block:
    """A block whose attention is that of the sequences of a pass."""
    if not any(isinstance(op, Attention) for op in block.ops):
        return block
    return replace(block, ops=tuple(step.attention(op) if isinstance(op, Attention) else op for op in block.ops))


class Engine:
    """An engine that serves, as a source of tasks: an iteration is one.

    Attributes
    ----------
    scheduler: what it decides with. coming: requests that have not arrived. requests: all of them.
    """

    def __init__(self, requests: Sequence[Request], limits: Limits, policy: Policy, pieces: _Pieces) -> None:
        self.requests = [Served(n, r.arrival_ps, r.input, r.output) for n, r in enumerate(requests)]
        self.coming = deque(self.requests)
        self.scheduler = Scheduler(limits, policy)
        self._pieces = pieces
        self._running: Iteration | None = None

    def tasks(self, now_ps: int, done: Sequence[Done]) -> tuple[Sequence[Task], int | None]:
        """The next iteration, when the one before has ended; when to ask again while there is nothing to do.

        What is chosen again while nobody arrives is given at once, until the next arrival.
        """
        while self.coming and self.coming[0].arrival_ps <= now_ps:
            self.scheduler.arrive(self.coming.popleft())
        if self._running is not None:
            if not done:
                return (), None
            self.scheduler.computed(self._running, done[0].ends_ps)
        self._running = self.scheduler.next(now_ps)
        arrival_ps = self.coming[0].arrival_ps if self.coming else None
        if self._running is None:
            return (), arrival_ps
        segment = self._pieces.of(self._running)
        until_ps = None if self._running.patient else arrival_ps
        return (Task(0, "engine", segment.name, segment, until_ps=until_ps),), None

    def answers(self) -> Sequence[Answer]:
        """How each request fared."""
        return (answer_of(self.requests, self.scheduler),)


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
        spec = self.spec
        check_parallel(self.inference)
        requests = spec.requests.requests()
        self._check_prompts(requests)
        largest = max(blocks_of(r.input + r.output - 1) for r in requests)
        for choice in TransformerWorkload(self.inference).wanted(formats).choices(formats):
            if choice.kv not in formats.cached:
                reads = ", ".join(formats.cached)
                raise InputError(f"kv_dtype {choice.kv}: attention on this machine reads a KV cache in {reads}")
            ops, held, blocks = self._held(choice, requests, capacity_bytes)
            if blocks >= largest:
                break
        self._check_room(requests, blocks, held, capacity_bytes)
        limits = Limits(spec.max_num_seqs, spec.max_num_batched_tokens, blocks)
        policy = PromptsFirst() if spec.chunk is None else Chunked(spec.chunk)
        pieces = _Pieces(ops)
        title = f"serving {spec.model.name}"
        job = Job(title, (), {0: range(spec.tensor_parallel)}, lambda: Engine(requests, limits, policy, pieces))
        return Plan(title, job, {0: held}, self._notes(ops.formats, requests, blocks))

    def _check_prompts(self, requests: Sequence[Request]) -> None:
        most = self.spec.max_num_batched_tokens
        for number, request in enumerate(requests):
            if self.spec.chunk is None and request.input > most:
                raise InputError(
                    f"request {number} can never run: its prompt of {request.input} tokens is more than "
                    f"max_num_batched_tokens {most}, and prompts are computed whole without 'chunk'"
                )

    def _held(
        self, formats: Formats, requests: Sequence[Request], capacity_bytes: int | None
    ) -> tuple[RankOps, Holdings, int]:
        """What a rank keeps, and the blocks of its KV cache."""
        spec, model = self.spec, self.spec.model
        router = None
        if model.moe is not None:
            router = Router(spec.routing, model.moe, model.layers - model.dense_layers, self.inference.seed)
        ops = RankOps(self.inference, formats, router)
        sequences = min(spec.max_num_seqs, len(requests))
        tokens = min(spec.max_num_batched_tokens, sum(r.input for r in requests) + sequences)
        longest = max(r.input + r.output for r in requests)
        segments = (
            ops.segment(Pass("prefill", 0, 1, tokens, tokens)),
            ops.segment(Pass("decode", 1, sequences, 1, longest, absorbed=True)),
        )
        weights, live = ops.weight_bytes(segments[-1]), ops.activation_bytes(segments, tokens)
        block_bytes = ops.kv_bytes([(1, BLOCK_TOKENS)])
        blocks = _UNBOUNDED
        if capacity_bytes is not None:
            blocks = max(0, (int(spec.memory_share * capacity_bytes) - weights - live) // block_bytes)
        held = {Role.WEIGHT: weights, Role.KV: blocks * block_bytes}
        return ops, Holdings(f"serving {model.name}", held, activation_bytes=live), blocks

    def _check_room(self, requests: Sequence[Request], blocks: int, held: Holdings, capacity_bytes: int | None) -> None:
        for number, request in enumerate(requests):
            need = blocks_of(request.input + request.output - 1)
            if need > blocks:
                rest = held.resident_bytes[Role.WEIGHT] + held.activation_bytes
                raise InputError(
                    f"request {number} can never run: {request.input} + {request.output} tokens need {need} blocks of "
                    f"{BLOCK_TOKENS}, and the KV cache has {blocks} beside {si(rest, 'B', 4)} of weights and "
                    f"activations in {self.spec.memory_share:g} of {si(capacity_bytes or 0, 'B', 4)}"
                )

    def _notes(self, formats: Formats, requests: Sequence[Request], blocks: int) -> tuple[str, ...]:
        spec = self.spec
        how = "prompts are computed whole, before answers go on"
        if spec.chunk is not None:
            how = f"prompts are computed in chunks of at most {spec.chunk} tokens beside answers"
        notes = [
            f"{len(requests):,} requests, first come, first served; {how}",
            f"{formats}; a KV cache of {blocks:,} blocks of {BLOCK_TOKENS} tokens, reserved for the whole answer "
            "when a request is admitted: nobody is preempted",
            "an engine takes no time to schedule, beside the launches of its chip",
        ]
        longest = max(r.input + r.output for r in requests)
        if longest > spec.model.max_positions:
            notes.append(
                f"sequences of {longest} tokens are longer than the {spec.model.max_positions} positions that "
                f"'{spec.model.name}' was made for"
            )
        return tuple(notes)
