"""A model on the ranks of an engine: its ops, what ranks keep, and the cache that is left."""

from __future__ import annotations

from copy import copy
from dataclasses import replace

from archsim.errors import InputError
from archsim.units import si
from archsim.workloads.alignment import Alignment
from archsim.workloads.engine import Engine
from archsim.workloads.engine_spec import EngineSpec
from archsim.workloads.formats import Formats, MachineFormats
from archsim.workloads.iteration import OneDraw, Pieces, layers_of, stages_of
from archsim.workloads.kv_blocks import BLOCK_TOKENS, blocks_of
from archsim.workloads.op import DType, GroupedMatMul, Op, Role
from archsim.workloads.passes import Pass
from archsim.workloads.plan import Holdings
from archsim.workloads.program import Segment
from archsim.workloads.rank_memory import activation_bytes, kv_bytes, weight_bytes
from archsim.workloads.recurrence import Recurrence
from archsim.workloads.requests import Request
from archsim.workloads.sequences import Served
from archsim.workloads.transformer import TransformerWorkload
from archsim.workloads.transformer_rank import RankOps
from archsim.workloads.transformer_spec import TransformerSpec, check_parallel

_UNBOUNDED = 2**40  # blocks of a machine of which no memory size is known


class Deployed:
    """A model on the ranks of an engine: its ops, what a rank keeps, and the blocks of its cache.

    Parameters
    ----------
    inference: the model, and how it is cut. engine: how the engine is set. capacity_bytes: memory of a rank.
    formats: what the machine computes with. longest: tokens of the longest request. stages: of a pipeline, each on
    ranks of its own; as many engines deal with a part of the requests each.

    Attributes
    ----------
    ops: of a rank. held: what a rank of each stage keeps. blocks, tier_blocks: of an engine's cache, and in the farther
    memory. state_blocks: as large as the states of a sequence. sequences: places of an engine; fewer than it asks for
    where states of recurrent layers leave no room.

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
        stages: int = 1,
    ) -> None:
        check_parallel(inference)
        layers = inference.model.layers
        if stages > layers:
            raise InputError(f"{stages} stages are more than the {layers} layers of '{inference.model.name}'")
        if inference.model.recurrent is not None and engine.kv_tier is not None and engine.preemption != "swap":
            raise InputError(
                f"kv_tier: no prefix of '{inference.model.name}' is found again, for its layers keep states of whole "
                "sequences: the farther memory serves 'preemption: swap' alone"
            )
        _check_strands(inference, engine, stages)
        self.stages = [None] if stages == 1 else stages_of(layers, stages)
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
        self.sequences = sequences
        segments = (
            ops.segment(Pass("prefill", 0, 1, tokens, tokens)),
            ops.segment(Pass("decode", 0, sequences, 1, self.longest, absorbed=True)),
        )
        if engine.drafting_layers:
            drafts = ops.prediction(Pass("draft", 0, sequences, 1, self.longest, absorbed=True))
            segments = (segments[0], replace(segments[1], blocks=(*segments[1].blocks, drafts)))
        live = activation_bytes(ops, segments, tokens) + engine.beside
        live += engine.sampling_bytes * sequences * model.vocab
        states = sequences * ops.state_bytes  # of a stage: its part of them, of as many engines as stages
        whole = kv_bytes(ops, [(1, BLOCK_TOKENS)], engine.drafting_layers)
        # Of a stage: bytes of its weights, and of a block of the cache.
        each = [
            (self._weights(segments[-1], stage), whole if stage is None else -(-whole * len(stage) // model.layers))
            for stage in self.stages
        ]
        farther = {} if engine.kv_tier is None else {engine.kv_tier: engine.kv_tier_bytes}
        self.block_bytes = [block for _, block in each]
        self.state_blocks = -(-ops.state_bytes // whole)
        self.tier_blocks = sum(farther.values()) // max(self.block_bytes) // len(each)
        self.blocks = _UNBOUNDED
        if self.capacity_bytes is not None:
            room = int(engine.memory_share * self.capacity_bytes) - live
            free = [room - weights for weights, _ in each]
            if states > min(free) // 2:  # fewer sequences: states take half of what is left
                self.sequences = max(1, min(free) // 2 // max(ops.state_bytes, 1))
                states = self.sequences * ops.state_bytes
            self.blocks = max(0, min((r - states) // b for r, (_, b) in zip(free, each, strict=True)) // len(each))
        if engine.kv_blocks is not None:
            self.blocks = engine.kv_blocks
        self.held = [
            Holdings(
                f"serving {model.name}",
                {Role.WEIGHT: weights, Role.KV: len(each) * self.blocks * block + states},
                farther,
                activation_bytes=live,
            )
            for weights, block in each
        ]

    def _weights(self, segment: Segment, stage: range | None) -> int:
        """Bytes of a stage's parameters."""
        if stage is None:
            return weight_bytes(self.ops, segment)
        layers = [block for block in segment.blocks if block.name.startswith("layer")]
        ends = [block for block in segment.blocks if block not in layers and block.name != "embedding"]
        mine = (*layers_of(layers, stage), *(ends if stage.stop == self.inference.model.layers else ()))
        return weight_bytes(self.ops, replace(segment, blocks=mine), stage)

    def pieces(self, ranks: int, number: int = 0) -> Pieces:
        """Iterations as ops of a stage, by number; ``ranks`` are those of a stage."""
        engine = self.engine
        drafts = engine.speculative().drafts * engine.drafting_layers
        return Pieces(
            self.ops,
            host_ps=lambda shape: engine.host.ps(shape, ranks),
            sampling_ops=engine.sampling_ops,
            fuses_norms=engine.fuses_norms,
            fuses_shared=engine.fuses_shared,
            prompt_state_ops=engine.prompt_state_ops,
            slower=self._slower,
            streamed=self._streamed,
            widening=self._widening,
            around=self._around,
            drafts=drafts,
            stage=self.stages[number],
            tier=engine.kv_tier or "",
            block_bytes=self.block_bytes[number],
            launch_ps=engine.host.launch,
            state_kernels=engine.host.state_kernels,
            graph_tokens=engine.host.graph_tokens,
            graphs=engine.host.graphs,
            weave_tokens=engine.weave_tokens,
        )

    def _slower(self, op: GroupedMatMul, tokens: int) -> float:
        """How much longer a kernel of experts takes than a tuned one."""
        untuned = self.engine.untuned
        if untuned is None or self.inference.expert_parallel == 1:
            return 1.0
        if op.scales is not None and op.scales.group:
            return untuned.blocks
        return untuned.plain if tokens > len(op.rows) and op.right_dtype.bits >= 16 else 1.0

    def _streamed(self, op: GroupedMatMul) -> tuple[int, int] | None:
        """What kernels of experts of the engine's own reach."""
        own = self.engine.experts
        if own is None or op.right_dtype not in own.formats or op.left_dtype is not op.right_dtype:
            return None
        return (round(1000 * own.memory), own.start) if sum(op.rows) <= own.visits * len(op.rows) else None

    def _widening(self, op: GroupedMatMul) -> int:
        """Thousandths of a cycle that kernels of experts take to widen weights."""
        own = self.engine.widening
        if own is None or op.right_dtype not in own.formats or op.left_dtype.bits <= op.right_dtype.bits:
            return 0
        return round(1000 * own.cycles)

    def _around(self, op: Op) -> int:
        """Time of small kernels around an op, ps."""
        around = self.engine.around
        if around is None:
            return 0
        if isinstance(op, GroupedMatMul):
            widens = op.right_dtype is DType.FP4 and op.left_dtype.bits >= 16
            return around.widened if widens and op.just_routed else 0
        return around.states if isinstance(op, Recurrence) and op.delta else 0

    def under(self, engine: EngineSpec) -> Deployed:
        """The same under other settings; the cache stays as large, where they do not say."""
        other = copy(self)
        other.engine = engine
        other.blocks = engine.kv_blocks or self.blocks
        return other

    def started(self) -> Engine:
        """An engine with nothing to do."""
        limits = self.engine.limits(self.blocks, self.tier_blocks)
        if self.inference.model.recurrent is not None:  # a state is that of all tokens before, none of a prefix
            places = min(limits.sequences, self.sequences)
            limits = replace(limits, reuses=False, sequences=places, states=self.state_blocks)
        return Engine(limits, self.engine.scheduling(), self.engine.looks, self.engine.ahead)

    def alignments(self, lanes: int) -> list[Alignment]:
        """One for each lane of replicas of attention whose prompts wait for each other; none where they do not."""
        spec = self.engine.aligns
        return [] if spec is None or self.inference.replicas == 1 else [Alignment(spec) for _ in range(lanes)]

    def served(self, number: int, request: Request, taken_ps: int) -> Served:
        """A request that has not arrived yet, and is taken in at a time."""
        seen_ps = taken_ps + self.engine.host.request
        served = Served(number, request.arrival_ps, request.input, request.output, request.contents, seen_ps)
        served.due_ps, served.expected = request.due_ps, request.expected
        return served

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
        fullest = max(self.held, key=lambda held: held.resident_bytes[Role.WEIGHT])
        rest = fullest.resident_bytes[Role.WEIGHT] + fullest.activation_bytes
        return (
            f"{request.input} + {request.output} tokens need {need} blocks of {BLOCK_TOKENS}, and the KV cache has "
            f"{self.blocks} beside {si(rest, 'B', 4)} of weights and activations in {self.engine.memory_share:g} of "
            f"{si(self.capacity_bytes or 0, 'B', 4)}"
        )


def _check_strands(spec: TransformerSpec, engine: EngineSpec, stages: int) -> None:
    """Complain where sums over ranks are to pass beside something else and cannot."""
    model = spec.model
    if stages > 1 and (model.residual == "ladder" or engine.weave_tokens):
        raise InputError("a ladder, and weave_tokens, are of models that are not cut into stages")
    if engine.weave_tokens and (spec.replicas > 1 or model.mla or model.recurrent or model.residual != "summed"):
        raise InputError(
            "weave_tokens: halves are of iterations whose layers sum over ranks, with neither replicas nor latent "
            f"attention nor recurrences: '{model.name}' is served otherwise"
        )
