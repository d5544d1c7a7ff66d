"""An iteration of an engine that serves, as ops: so many sequences that get a token, beside parts of prompts.

What an iteration costs depends on a few numbers (:class:`~archsim.workloads.shape.Shape`), so that equal ones are made
and laid out once:

- the ops of the layers work on the tokens of all sequences, padded to the next size of which the engine has captured a
  graph (:func:`~archsim.workloads.shape.padded`);
- attention is two kernels, one of all sequences that decode and one of all prompts. Sequences that decode are counted
  at their mean length, in whole blocks of the cache; prompts as they are, in whole blocks;
- experts are loaded as one draw for each number of tokens says, in all layers alike;
- the LM head works on the sequences that get a token, a piece of work of its own;
- tokens that are drafted come after it, a pass of one layer and of the LM head for each.

Latent attention takes prompts in its expanded form and decodes in its absorbed one, beside each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt

from archsim.workloads.mixture_of_experts import Router, RoutingSpec
from archsim.workloads.model import MixtureSpec
from archsim.workloads.op import Attention, Collective, Delay, DType, GroupedMatMul, MatMul, Op, Role, Transfer, Vector
from archsim.workloads.passes import Pass
from archsim.workloads.program import Block, Segment
from archsim.workloads.ragged import Ragged
from archsim.workloads.recurrence import Recurrence
from archsim.workloads.shape import HALVED, Shape, padded
from archsim.workloads.strands import HALVES, woven
from archsim.workloads.top_k_attention import of_scores
from archsim.workloads.transformer_rank import RankOps, each_layer, runs

Ints = npt.NDArray[np.int64]

_SORTED_ROWS = 128  # from so many rows on PyTorch sorts each by itself, many side by side

_BY_KEYS = ("index", "index_top_k", "attention")
_SLOTS = (
    "decoded_q_absorb",
    "decoded_v_up",
    "kv_up",
    "recurrence",
    "prompt_recurrence",
    "fetched_kv",
    "stored_kv",
    *_BY_KEYS,
    *(f"prompt_{name}" for name in _BY_KEYS),
)
_ABSORBED = ("q_absorb", "v_up")
_DRAFT = "draft_"


def slot(op: Op) -> str:
    """Which op of a layer it is whose sizes depend on more than the padded tokens; "" for all others."""
    name = op.name.removeprefix(_DRAFT)
    for half in HALVES:
        name = name.removeprefix(half)
    return name if name in _SLOTS else ""


def by_keys(op: Op) -> bool:
    """Whether it is a slot whose sizes depend on the keys of sequences that decode."""
    return slot(op) in _BY_KEYS


class OneDraw(Router):
    """Loads of experts that depend on the number of tokens alone: all layers are like the first one."""

    def __init__(self, spec: RoutingSpec, moe: MixtureSpec, layers: int, seed: int) -> None:
        super().__init__(spec, moe, layers, seed)
        self._drawn: dict[int, tuple[int, ...]] = {}

    def counts(self, layer: int, tokens: int, phase: int) -> tuple[int, ...]:
        if tokens not in self._drawn:
            self._drawn[tokens] = super().counts(0, tokens, 0)
        return self._drawn[tokens]


@dataclass(frozen=True)
class _Padded(Pass):
    """A pass of padded tokens; its slots are left as they are."""

    rows: int = 0
    sampled: int = 0

    @property
    def sequences(self) -> int:
        return self.sampled

    @property
    def tokens(self) -> int:
        return self.rows

    @property
    def cached(self) -> int:
        return 0

    def attention(self, one: Attention, times: int = 1) -> Attention:
        return one

    def recurrence(self, one: Recurrence, chunk: int) -> Recurrence:
        return replace(one, chunk=1 if self.absorbed else chunk)


@dataclass
class Pieces:
    """Iterations as segments.

    Attributes
    ----------
    ops: of a rank; its router gives one draw for all layers. host_ps: time of the host before an iteration.
    sampling_ops: of a lane for each logit, to pick a token. fuses_norms: norms that end the all-reduce before them.
    fuses_shared: experts that all tokens visit are one more of the others. prompt_state_ops: of a lane, of a Mamba-2
    layer in an iteration with prompts. slower: how much longer a kernel of experts takes than a tuned one, by the
    tokens of the iteration. streamed: kernels of experts of the engine's own. widening: what it takes them to widen
    weights. around: ps of small kernels beside an op. drafts: tokens for which a layer drafts.
    stage: the layers of a stage of a pipeline, all when None; the first one has the embedding and the host's time, the
    last one the LM head. tier: memory that blocks of the KV cache are copied from and to. block_bytes: of such a block.
    weave_tokens: from so many on an iteration is computed as two halves, and sums over ranks of one pass beside the
    other; 0: none is. launch_ps: of the host for a kernel of an iteration with prompts. state_kernels: beside
    a gated delta rule. graph_tokens: up to so many an iteration is a captured graph. graphs: whether any is.
    """

    ops: RankOps
    host_ps: Callable[[Shape], int] = lambda shape: 0
    sampling_ops: int = 0
    fuses_norms: Literal["none", "attention", "all"] = "none"
    prompt_state_ops: int = 0
    slower: Callable[[GroupedMatMul, int], float] = lambda op, tokens: 1.0
    drafts: int = 0
    stage: range | None = None
    tier: str = ""
    block_bytes: int = 0
    launch_ps: int = 0
    state_kernels: int = 0
    streamed: Callable[[GroupedMatMul], tuple[int, int] | None] = lambda op: None
    widening: Callable[[GroupedMatMul], int] = lambda op: 0
    fuses_shared: bool = False
    graph_tokens: int = 0
    graphs: bool = True
    around: Callable[[Op], int] = lambda op: 0
    weave_tokens: int = 0
    _blocks: dict[tuple[int, str, int], tuple[Block, ...]] = field(default_factory=dict)
    _ends: dict[tuple[int, int], tuple[Block, ...]] = field(default_factory=dict)
    _woven: dict[tuple[int, str, str], tuple[Block, ...]] = field(default_factory=dict)

    def of(self, shape: Shape, keys: Ints | None = None, tokens: int = 0) -> Segment:
        """The host's time, embedding, layers, and LM head.

        Parameters
        ----------
        keys: of a sequence that decodes, [steps], where the iteration comes several times. tokens: new ones of a step.
        """
        steps = 1 if keys is None else len(keys)
        lanes = keys if keys is not None and steps > 1 else None
        blocks = [replace(b, ops=tuple(_filled(b.ops, shape, lanes))) for b in self.blocks(shape)]
        host_ps = self.host_ps(shape) if self.first else 0
        if host_ps:
            blocks.insert(0, Block("host", (Delay(name="host", ps=host_ps, reason="scheduling"),)))
        return Segment(shape.kind, tuple(blocks), steps=steps, tokens=tokens)

    def blocks(self, shape: Shape) -> tuple[Block, ...]:
        """All that is computed, the slots with the sizes of one token."""
        return (*self.beginning(shape), *self.end(shape))

    def beginning(self, shape: Shape) -> tuple[Block, ...]:
        """The layers, and what comes before them."""
        made = self.woven(shape) if self.weaves(shape) else self.template(shape.tokens, shape.kind, shape.group)
        return (*self.copies(shape.copies), *made)

    def weaves(self, shape: Shape) -> bool:
        """Whether it is computed as two halves."""
        return 0 < self.weave_tokens <= shape.tokens and self.ops.tp > 1

    def woven(self, shape: Shape) -> tuple[Block, ...]:
        """The layers with the halves of an iteration in turns, and what comes before them."""
        halves = shape.halves()
        key = shape.tokens, halves[0].kind, halves[1].kind
        if key not in self._woven:
            entry, *_ = self.template(shape.tokens, shape.kind, shape.group)
            first, second = (
                each_layer(self.template(tokens, half.kind)[1:])
                for tokens, half in zip(shape.half_tokens, halves, strict=True)
            )
            *turns, last = woven(list(zip(first, second, strict=True)))
            self._woven[key] = (entry, *runs(turns), Block("last_sums", last))
        return self._woven[key]

    def end(self, shape: Shape) -> tuple[Block, ...]:
        """What comes after the layers."""
        key = shape.sampled, shape.drafting
        if key not in self._ends:
            self._ends[key] = (*self.head(shape.sampled), *self.drafting(shape.drafting))
        return self._ends[key]

    def launching_ps(self, shape: Shape) -> int:
        """Time in which the host launches an iteration's kernels one by one; 0 of one that is a captured graph."""
        captured = self.graphs and (not shape.prompts or shape.tokens <= self.graph_tokens)
        if captured or not self.launch_ps:
            return 0
        return self.launch_ps * sum(
            block.repeat * (1 + self.state_kernels * (isinstance(op, Recurrence) and op.delta))
            for block in self.blocks(shape)
            for op in block.ops
            if op.name != "turn"
        )

    def copies(self, which: tuple[bool, bool]) -> tuple[Block, ...]:
        """Blocks of the KV cache that are stored in the farther memory, and those that are fetched; of a block each."""
        stored, fetched = which
        ops = list[Op]()
        if stored:
            ops.append(Transfer(name="stored_kv", bytes=self.block_bytes, source=Role.KV, destination=self.tier))
        if fetched:
            ops.append(Transfer(name="fetched_kv", bytes=self.block_bytes, source=self.tier, destination=Role.KV))
        return (Block("copies", tuple(ops)),) if ops else ()

    @property
    def first(self) -> bool:
        """Whether it is the first stage, or the only one."""
        return self.stage is None or self.stage.start == 0

    @property
    def last(self) -> bool:
        """Whether it is the last stage, or the only one."""
        return self.stage is None or self.stage.stop == self.ops.model.layers

    def head(self, sampled: int) -> tuple[Block, ...]:
        """From the last norm on, of so many sequences."""
        if not self.last:
            return ()
        block = self.ops.head(_Padded("head", 0, 1, 1, 1, rows=sampled, sampled=sampled))
        if block is None:
            return ()
        return (replace(block, ops=(*block.ops, *self._sampled(sampled))),)

    def drafting(self, rows: int) -> tuple[Block, ...]:
        """Drafts of tokens for so many sequences, one after the other."""
        if not rows or not self.drafts or not self.last:
            return ()
        step = _Padded("draft", 0, 1, 1, 1, rows=rows, sampled=rows, absorbed=True)
        block = self.ops.prediction(step)
        ops = tuple(self._fused(block.ops))
        names = {op.name: _DRAFT + op.name if slot(op) else op.name for op in ops}
        renamed = (
            replace(op, name=names[op.name], after=None if op.after is None else tuple(names[n] for n in op.after))
            for op in ops
        )
        return (replace(block, name="draft", ops=tuple(renamed), repeat=self.drafts),)

    def _sampled(self, rows: int) -> Iterator[Op]:
        """Picking a token for each of so many sequences, on every rank."""
        if self.sampling_ops:
            width = self.ops.model.vocab * self.sampling_ops
            sorted_rows = min(rows, _SORTED_ROWS) + max(rows - _SORTED_ROWS, 0) * 3 // 10
            yield Vector(
                name="sample",
                function="sample",
                rows=sorted_rows,
                width=width,
                inputs=0,
                outputs=0,
            )

    def template(self, tokens: int, kind: str, group: int = 0) -> tuple[Block, ...]:
        """The blocks of iterations of so many padded tokens; the slots have the sizes of one token."""
        if (tokens, kind, group) not in self._blocks:
            absorbed, expanded = (self._pass(tokens, a, group) for a in (True, False))
            mla = self.ops.model.mla
            both = mla is not None and mla.indexer is None and kind == "mixed"
            step = absorbed if both or kind == "decode" else expanded
            layers = self.ops.layers(step)
            others = self.ops.layers(expanded) if both else layers
            other = {id(a.ops): b.ops for a, b in zip(layers, others, strict=True)}

            def made(ops: tuple[Op, ...]) -> Iterator[Op]:
                mine = _both(ops, other[id(ops)]) if both and id(ops) in other else _slots(ops, kind)
                for op in self._fused(tuple(self._prepared(tuple(mine)))):
                    yield self._paced(op, tokens)

            entry, mine = _changed(self._entry(step), made), _changed(layers_of(layers, self.stage), made)
            self._blocks[tokens, kind, group] = (*entry, *self.ops.ordered(mine))
        return self._blocks[tokens, kind, group]

    def _entry(self, step: Pass) -> tuple[Block, ...]:
        """Before the layers: the embedding, or what the ranks of the stage before have sent, a part of it each."""
        if self.first:
            return (self.ops.embedding(step),)
        if self.ops.tp == 1:
            return ()
        sent = self.sent_bytes(step.constant_tokens) * self.ops.tp
        gather = Collective(name="received_all_gather", collective="all_gather", bytes=sent, ranks=self.ops.tp)
        return (Block("received", (gather,)),)

    def sent_bytes(self, tokens: int) -> int:
        """What a rank sends to the next stage for so many tokens: its part of the hidden state and of the residual,
        which vLLM keeps apart."""
        return int(self.ops.formats.activation.bytes(2 * tokens * self.ops.model.hidden)) // self.ops.tp

    def _fused(self, ops: Sequence[Op]) -> Iterator[Op]:
        """Ops of a layer as libraries join them: norms sum the residual as they read it, and some are the end of an
        all-reduce."""
        named = {name for op in ops for name in op.after or ()}

        def joins(op: Op, function: str) -> bool:
            return (
                isinstance(op, Vector) and op.function.endswith(function) and op.name not in named and op.after is None
            )

        if self.ops.model.norm_position == "pre":
            ops = [op for op in ops if not joins(op, "residual")]
        before = ops[-1]  # the layer before ends alike
        for op in ops:
            reduced = isinstance(before, Collective) and before.collective == "all_reduce"
            fuses = self.fuses_norms == "all" or (self.fuses_norms == "attention" and before is not ops[-1])
            if reduced and fuses and joins(op, "norm"):
                continue
            before = op
            yield op

    def _prepared(self, ops: Sequence[Op]) -> Iterator[Op]:
        """The ops of a layer as an engine has them: its shared experts, absorbed weights in 16 bits as vLLM and SGLang
        keep them, and what it does before it computes states of prompts."""
        for op in _one_kernel(ops) if self.fuses_shared else ops:
            if isinstance(op, MatMul) and op.name.removeprefix("decoded_") in _ABSORBED:
                yield replace(op, left_dtype=DType.BF16, right_dtype=DType.BF16, out_dtype=DType.BF16, scales=None)
                continue
            if (ps := self.around(op)) and not op.name.startswith("prompt_"):
                yield Delay(name=f"around_{op.name}", ps=ps, reason="small kernels")
            if self.prompt_state_ops and isinstance(op, Recurrence) and not op.delta and op.chunk > 1:
                yield Vector(
                    name="prompt_states",
                    function="sample",
                    rows=1,
                    width=self.prompt_state_ops,
                    inputs=0,
                    outputs=0,
                )
            yield op

    def _paced(self, op: Op, tokens: int) -> Op:
        """A kernel of experts as this engine has it."""
        if not isinstance(op, GroupedMatMul):
            return op
        ratio = self.slower(op, tokens)
        slower = (round(1000 * ratio), 1000) if ratio != 1 else (1, 1)
        return replace(op, slower=slower, streamed=self.streamed(op), widening=self.widening(op))

    def _pass(self, tokens: int, absorbed: bool, group: int) -> _Padded:
        name = "decode" if absorbed else "prefill"
        return _Padded(name, 0, 1, 1, 1, rows=tokens, sampled=1, absorbed=absorbed, group=group)


def _changed(blocks: Sequence[Block], change: Callable[[tuple[Op, ...]], Iterator[Op]]) -> tuple[Block, ...]:
    """The blocks with other ops; those that had the same ones have the same ones again."""
    known: dict[int, tuple[Op, ...]] = {}
    for block in blocks:
        if id(block.ops) not in known:
            known[id(block.ops)] = tuple(change(block.ops))
    return tuple(replace(block, ops=known[id(block.ops)]) for block in blocks)


def _one_kernel(ops: Sequence[Op]) -> Iterator[Op]:
    """A layer whose shared expert, where it is as wide as the others, is one more of them that all tokens visit."""
    by_name = {op.name: op for op in ops}
    shared, routed = by_name.get("shared_gate_up"), by_name.get("experts_gate_up")
    if not isinstance(shared, MatMul) or not isinstance(routed, GroupedMatMul):
        yield from ops
        return
    if (shared.n, shared.right_dtype) != (routed.n, routed.right_dtype):
        yield from ops
        return
    gone = ("shared_gate_up", "shared_activation", "shared_down")
    for op in ops:
        if op.name in gone:
            continue
        if isinstance(op, GroupedMatMul):
            op = replace(op, rows=(*op.rows, int(shared.m)))
        if op.after is not None:
            op = replace(op, after=tuple(name for name in op.after if name not in gone))
        yield op


def stages_of(layers: int, stages: int) -> list[range]:
    """Layers of each stage; those that are left over go to the stages before the last one, from there down (vLLM)."""
    sizes = [layers // stages] * stages
    for number in range(layers % stages):
        sizes[-2 - number] += 1
    ends = np.cumsum([0, *sizes]).tolist()
    return [range(begin, end) for begin, end in pairwise(ends)]


def layers_of(blocks: Sequence[Block], stage: range | None) -> tuple[Block, ...]:
    """The blocks as far as their layers belong to a stage."""
    if stage is None:
        return tuple(blocks)
    kept, at = list[Block](), 0
    for block in blocks:
        begin, end = max(at, stage.start), min(at + block.repeat, stage.stop)
        if end > begin:
            kept.append(replace(block, repeat=end - begin, first=begin))
        at += block.repeat
    return tuple(kept)


def _slots(ops: Sequence[Op], kind: str) -> Iterator[Op]:
    """The ops of a layer; what mixes the tokens of prompts under its own name."""
    for op in ops:
        if kind != "decode" and (by_keys(op) or isinstance(op, Recurrence)):
            if kind == "mixed":
                yield replace(op, chunk=1) if isinstance(op, Recurrence) else op
            yield replace(op, name=f"prompt_{op.name}")
        else:
            yield op


def _both(absorbed: Sequence[Op], expanded: Sequence[Op]) -> Iterator[Op]:
    """The ops of a layer with latent attention in both forms, that of prompts after that of decodes."""
    prompts = [replace(op, name="prompt_attention") if op.name == "attention" else op for op in expanded]
    for op in absorbed:
        yield replace(op, name=f"decoded_{op.name}") if op.name in _ABSORBED else op
        if op.name == "v_up":
            yield from (p for p in prompts if p.name in ("kv_up", "prompt_attention"))


def _filled(ops: Sequence[Op], shape: Shape, keys: Ints | None) -> Iterator[Op]:
    for op in ops:
        yield filled(op, shape, keys) if slot(op) else op


def filled(op: Op, shape: Shape, keys: Ints | None = None) -> Op:
    """A slot with its sizes in an iteration.

    Parameters
    ----------
    op: a :func:`slot`. keys: of a sequence that decodes, [steps], where they are not the same in all.
    """
    if op.name.startswith(HALVES) and shape.tokens >= HALVED:
        shape = shape.halves()[op.name.startswith(HALVES[1])]
    if isinstance(op, Transfer):
        return replace(op, bytes=op.bytes * (shape.stored if op.name == "stored_kv" else shape.fetched))
    if isinstance(op, Vector):  # as many scores as the indexer makes
        name = op.name.removesuffix("_top_k")
        one = Attention(name=name, batch=1, heads=1, kv_heads=1, q_len=1, kv_len=1, head_dim=1, v_head_dim=0)
        return of_scores(op, _attending(one, shape, keys))
    if isinstance(op, Attention):
        return _attending(op, shape, keys)
    if isinstance(op, Recurrence):
        if slot(op) == "recurrence":
            return replace(op, tokens=shape.decodes * _queries(op, shape), sequences=shape.decodes)
        tokens, sequences = sum(n * q for n, q, _ in shape.prompts), sum(n for n, _, _ in shape.prompts)
        return replace(op, tokens=tokens, sequences=sequences)
    if not isinstance(op, MatMul):
        raise ValueError(f"'{op.name}' is no slot")
    if slot(op) == "kv_up":
        return replace(op, m=sum(n * k for n, _, k in shape.prompts))
    return replace(op, m=padded(shape.decodes * _queries(op, shape)))


def _queries(op: Op, shape: Shape) -> int:
    """Of a sequence that decodes."""
    return 1 if op.name.startswith(_DRAFT) else shape.queries


def _attending(op: Attention, shape: Shape, keys: Ints | None) -> Attention:
    if by_keys(op):
        seen = shape.keys if keys is None else keys
        return replace(op, batch=shape.decodes, q_len=_queries(op, shape), kv_len=seen).of_chosen()
    ragged = Ragged.of([(n, q, k, 1) for n, q, k in shape.prompts], 1)
    return Pass.of("prefill", 0, ragged).attention(op)
