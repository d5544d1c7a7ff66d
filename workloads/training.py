"""A step of training: forward, backward and optimizer, cut over tensor-, pipeline- and data-parallel ranks.

Ranks of a tensor-parallel group stand side by side, then those of a data-parallel group, then stages. The ranks of a
stage are equal, so a stage is a class. Every stage has five streams: computing, and sending and receiving each way.
Gradients are summed over the data-parallel ranks after the last backward pass, those of a tied embedding between the
first and the last stage too; then each rank updates its parameters.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

from archsim.config import Named
from archsim.errors import InputError, nearest
from archsim.spec import Count, WorkloadSpec
from archsim.workloads.backward import backward, saved_bytes
from archsim.workloads.formats import ANYTHING, Formats, MachineFormats
from archsim.workloads.model import ModelSpec
from archsim.workloads.op import Attention, Collective, DType, Embedding, MatMul, Op, Role, Vector
from archsim.workloads.passes import Pass
from archsim.workloads.pipeline import ORDERS, in_flight
from archsim.workloads.plan import Holdings, Plan
from archsim.workloads.program import Block, Segment
from archsim.workloads.task import After, GroupCollective, Job, Loop, Receive, Send, Task, What
from archsim.workloads.tensors import Stay
from archsim.workloads.transformer_rank import RankOps
from archsim.workloads.transformer_spec import TransformerSpec

_ADAM_BYTES = 12
"""Bytes of a parameter's main copy and two moments in FP32 (ZeRO, arXiv 1910.02054, section 3.1)."""


class TrainingSpec(WorkloadSpec):
    """A step of training a transformer."""

    kind: Literal["training"] = "training"
    model: Annotated[ModelSpec, Named("models")]
    """a shipped model, a file of ours, or a Hugging Face config.json"""
    input: Count = 2048
    """tokens of a sequence"""
    batch: Count
    """sequences of a step, over all ranks"""
    micro_batch: Count = 1
    """sequences that a rank computes at a time"""
    tensor_parallel: Count = 1
    """ranks that share each layer"""
    pipeline_parallel: Count = 1
    """stages; layers are dealt evenly"""
    data_parallel: Count = 1
    """replicas, each with its part of the batch"""
    schedule: str = "1f1b"
    """order of micro-batches on the stages: gpipe or 1f1b"""
    recompute: Literal["none", "selective", "full"] = "none"
    """what the backward pass computes again instead of keeping: nothing, attention, or whole layers"""
    sharded_optimizer: bool = False
    """each data-parallel rank keeps its share of the optimizer's state (ZeRO 1): gradients are scattered, parameters
    gathered"""
    dtype: DType = DType.BF16
    """format of weights and activations"""
    gradient_dtype: DType = DType.FP32
    """format in which gradients of weights are kept and summed"""
    dropout: bool = False
    """whether residual sums drop elements, whose masks are kept"""


@dataclass(frozen=True)
class _Stage:
    """The pieces of a stage."""

    forward: Segment
    backward: Segment
    parameters: int
    saved_bytes: int


class TrainingWorkload:
    """A training step as a job."""

    Spec: ClassVar[type[TrainingSpec]] = TrainingSpec

    def __init__(self, spec: TrainingSpec) -> None:
        self.spec = spec

    def program(self, capacity_bytes: int | None = None, formats: MachineFormats = ANYTHING) -> Plan:
        """The plan of all ranks.

        Raises
        ------
        InputError: degrees that do not divide the model or the batch, no such schedule, experts (not yet trained here).
        """
        spec = self.spec
        self._check()
        micro_batches = spec.batch // (spec.data_parallel * spec.micro_batch)
        stages = spec.pipeline_parallel
        known: dict[tuple[bool, bool, int], _Stage] = {}
        tasks: list[Task | Loop] = []
        classes: dict[int, range] = {}
        holdings: dict[int, Holdings] = {}
        per_stage = spec.tensor_parallel * spec.data_parallel
        for number in range(stages):
            layers = self._layers(number)
            kind = (number == 0, number == stages - 1, layers)
            if kind not in known:
                known[kind] = self._stage(*kind)
            stage = known[kind]
            rank = number * per_stage
            classes[rank] = range(rank, rank + per_stage)
            order = ORDERS[spec.schedule](number, stages, micro_batches)
            tasks += self._tasks(stage, number, rank, per_stage, micro_batches)
            holdings[rank] = self._holdings(stage, min(in_flight(order), micro_batches))
        notes = (
            f"{micro_batches} micro-batches of {spec.micro_batch} on {stages} stages, {spec.schedule}; "
            f"{per_stage * stages} ranks",
        )
        return Plan(
            f"training {spec.model.name}", Job(f"training {spec.model.name}", tuple(tasks), classes), holdings, notes
        )

    def _check(self) -> None:
        spec, model = self.spec, self.spec.model
        if spec.schedule not in ORDERS:
            raise InputError(f"no schedule is called '{spec.schedule}': {nearest(spec.schedule, ORDERS)}")
        if model.moe is not None or model.mla is not None or model.encoder or model.looks_at:
            raise InputError(f"'{model.name}': training is of dense decoders so far")
        for what, size in (("heads", model.heads), ("intermediate", model.intermediate)):
            if size % spec.tensor_parallel:
                split = f"tensor_parallel {spec.tensor_parallel} ranks"
                raise InputError(f"{what} {size} of '{model.name}' does not divide among {split}")
        if spec.pipeline_parallel > model.layers:
            raise InputError(
                f"{spec.pipeline_parallel} stages are more than the {model.layers} layers of '{model.name}'"
            )
        together = spec.data_parallel * spec.micro_batch
        if spec.batch % together:
            below = spec.batch // together * together
            raise InputError(
                f"batch {spec.batch} does not divide into micro-batches of {spec.micro_batch} on {spec.data_parallel} "
                f"replicas: {f'{below} or ' if below else ''}{below + together} would"
            )

    def _layers(self, stage: int) -> int:
        """Layers of a stage; the first ones have one more where they do not divide."""
        layers, stages = self.spec.model.layers, self.spec.pipeline_parallel
        return layers // stages + (1 if stage < layers % stages else 0)

    # -- what a stage computes

    def _stage(self, first: bool, last: bool, layers: int) -> _Stage:
        spec, model = self.spec, self.spec.model
        as_inference = TransformerSpec(
            model=model, phases=("prefill",), batch=1, input=spec.input, tensor_parallel=spec.tensor_parallel
        )
        formats = Formats(spec.dtype, spec.dtype, spec.dtype, spec.dtype, spec.dtype)
        ops = RankOps(as_inference, formats, None)
        step = Pass("forward", 0, spec.micro_batch, spec.input, spec.input)
        layer = _without_cache(ops.dense_layer(step, model.kinds[0]))
        blocks = [Block("layer", layer, layers)]
        if first:
            blocks.insert(0, Block("embedding", _without_cache(ops.embedding(step).ops)))
        if last:
            blocks.append(Block("head", self._head(ops, step.constant_tokens)))
        again = {"none": (), "selective": tuple(op for op in layer if isinstance(op, Attention)), "full": layer}
        recomputed = tuple(_again(op) for op in again[spec.recompute])
        back = []
        for block in reversed(blocks):
            mine = backward(block.ops, spec.gradient_dtype)
            back.append(replace(block, ops=(*recomputed, *mine) if block.name == "layer" else mine))
        kept = saved_bytes(layer, spec.dropout)
        if spec.recompute == "full":
            kept = int(spec.dtype.bytes(step.constant_tokens * model.hidden))
        rest = sum(saved_bytes(block.ops, spec.dropout) for block in blocks if block.name != "layer")
        parameters = sum(block.repeat * sum(_parameters(op, ops) for op in block.ops) for block in blocks)
        return _Stage(
            Segment("forward", tuple(blocks), tokens=0),
            Segment("backward", tuple(back), tokens=0),
            parameters,
            layers * kept + rest,
        )

    def _head(self, ops: RankOps, tokens: int) -> tuple[Op, ...]:
        """Final norm, logits of all tokens, and the loss; the vocabulary stays cut over the ranks."""
        head: list[Op] = [ops.norm("final_norm", tokens)]
        head.append(ops.whole("lm_head", tokens, self.spec.model.hidden, ops.vocab))
        head.append(ops.vector("loss", "softmax", tokens, ops.vocab))
        if self.spec.tensor_parallel > 1:  # largest, sum and the target's logit of each token
            size = 3 * int(DType.FP32.bytes(tokens))
            head.append(
                Collective(name="loss_all_reduce", collective="all_reduce", bytes=size, ranks=self.spec.tensor_parallel)
            )
        return tuple(head)

    def _optimizer(self, stage: _Stage) -> Segment:
        """Adam over a rank's parameters: a kernel that reads gradients and states, and writes states and weights."""
        spec = self.spec
        mine = -(-stage.parameters // spec.data_parallel) if spec.sharded_optimizer else stage.parameters
        width = 1024
        adam = Vector(
            name="adam",
            function="add",
            rows=-(-mine // width),
            width=width,
            inputs=4,
            outputs=3,
            dtype=DType.FP32,
        )
        return Segment("optimizer", (Block("optimizer", (adam,)),))

    # -- who does what when

    def _tasks(self, stage: _Stage, number: int, rank: int, apart: int, micro_batches: int) -> Iterable[Task | Loop]:
        spec = self.spec
        last = spec.pipeline_parallel - 1
        size = int(spec.dtype.bytes(spec.micro_batch * spec.input * spec.model.hidden))

        def task(stream: str, name: str, what: What, *after: str) -> Task:
            return Task(rank, stream, name, what, tuple(After(name) for name in after))

        passes = {
            "forward": task("compute", "forward", stage.forward, *(["receive activations"] if number else [])),
            "backward": task("compute", "backward", stage.backward, *(["receive gradients"] if number < last else [])),
        }
        for directions, times in ORDERS[spec.schedule](number, spec.pipeline_parallel, micro_batches):
            if times:
                yield Loop(tuple(passes[direction] for direction in directions), times)
        if number:
            below = rank - apart
            yield Loop((task("activations in", "receive activations", Receive(below, "activations")),), micro_batches)
            send = task("gradients out", "send gradients", Send(below, size, "gradients"), "backward")
            yield Loop((send,), micro_batches)
        if number < last:
            above = rank + apart
            send = task("activations out", "send activations", Send(above, size, "activations"), "forward")
            yield Loop((send,), micro_batches)
            yield Loop((task("gradients in", "receive gradients", Receive(above, "gradients")),), micro_batches)
        yield from self._update(stage, rank, apart, number in (0, last))

    def _update(self, stage: _Stage, rank: int, apart: int, has_table: bool) -> Iterable[Task]:
        spec = self.spec
        group = range(rank, rank + apart, spec.tensor_parallel)
        size = int(spec.gradient_dtype.bytes(stage.parameters))

        def make(name: str, what: What) -> Task:
            return Task(rank, "compute", name, what)

        if spec.data_parallel > 1:
            way = "reduce_scatter" if spec.sharded_optimizer else "all_reduce"
            yield make("sum gradients", GroupCollective(way, size, group, "gradients"))
        if has_table and spec.pipeline_parallel > 1 and spec.model.tied_embeddings:
            table = int(spec.gradient_dtype.bytes(-(-spec.model.vocab // spec.tensor_parallel) * spec.model.hidden))
            ends = range(rank % apart, spec.pipeline_parallel * apart, (spec.pipeline_parallel - 1) * apart)
            yield make("sum table gradients", GroupCollective("all_reduce", table, ends, "table"))
        yield make("optimizer", self._optimizer(stage))
        if spec.data_parallel > 1 and spec.sharded_optimizer:
            gathered = int(spec.dtype.bytes(stage.parameters))
            yield make("gather parameters", GroupCollective("all_gather", gathered, group, "parameters"))

    def _holdings(self, stage: _Stage, flying: int) -> Holdings:
        spec = self.spec
        shards = spec.data_parallel if spec.sharded_optimizer else 1
        return Holdings(
            f"training {spec.model.name}",
            {
                Role.WEIGHT: int(spec.dtype.bytes(stage.parameters)),
                Role.GRADIENT: int(spec.gradient_dtype.bytes(stage.parameters)),
                Role.OPTIMIZER: -(-_ADAM_BYTES * stage.parameters // shards),
            },
            activation_bytes=flying * stage.saved_bytes,
            stays=(Stay("saved activations", Role.ACTIVATION, (stage.saved_bytes,), "forward", "backward"),),
        )


def _again(op: Op) -> Op:
    """An op of the forward pass, done once more going backward."""
    again = replace(op, name=f"{op.name}_again", after=None)
    if isinstance(again, Collective) and again.producer is not None:
        return replace(again, producer=f"{again.producer}_again")
    return again


def _without_cache(ops: Iterable[Op]) -> tuple[Op, ...]:
    """Ops of a forward pass that keeps no cache: keys and values are activations."""
    kept: list[Op] = []
    for op in ops:
        if isinstance(op, Attention):
            kept.append(replace(op, kv_role=Role.ACTIVATION, kv_dtype=op.dtype))
        elif isinstance(op, Vector) and isinstance(op.kv_write, int) and op.kv_write:
            if op.outputs:
                kept.append(replace(op, kv_write=0))
        else:
            kept.append(op)
    return tuple(kept)


def _parameters(op: Op, ops: RankOps) -> int:
    """Parameters of an op on a rank."""
    if isinstance(op, MatMul) and op.right is Role.WEIGHT:
        return int(op.groups * op.k * op.n + (op.groups * op.n if op.bias else 0))
    if isinstance(op, Vector):
        return op.weights
    if isinstance(op, Embedding):
        return (ops.vocab if op.name == "tokens" else ops.model.max_positions) * op.width
    return 0
