"""How a step of training is cut over ranks, and what is wrong with a cut."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from archsim.errors import Problem
from archsim.workloads.model import ModelSpec
from archsim.workloads.step.schedule import Schedule, schedule_of

LAID = ("tp", "cp", "dp", "pp")
"""How ranks stand side by side, those of tensors first (Megatron-LM's order)."""


@dataclass(frozen=True)
class Cut:
    """Degrees of parallelism and the batch.

    Attributes
    ----------
    tensor, context, pipeline, data: their product is the GPUs. experts: ranks that share the experts of a layer, taken
    from those of data and context. virtual: parts of the layers that a stage holds. sequences: of a step.
    micro_batch: sequences that a replica computes at a time. shards: ZeRO stage. shard_ranks: that share one copy.
    sequence_parallel: tensor-parallel ranks share tokens outside products. layers: of each piece that stages hold, in
    the order of the model; dealt evenly where empty. vocabulary: times that stages wait for each other where each holds
    its share of the rows of embedding and head (arXiv 2411.05288); 0: the first one and the last one hold them.
    laid: dimensions on the machine, neighbours first.
    """

    sequences: int
    micro_batch: int
    tensor: int = 1
    context: int = 1
    pipeline: int = 1
    data: int = 1
    experts: int = 1
    virtual: int = 1
    schedule: str = "1f1b"
    shards: int = 0
    shard_ranks: int = 1
    sequence_parallel: bool = False
    layers: tuple[int, ...] = ()
    vocabulary: int = 0
    laid: tuple[str, ...] = LAID

    @property
    def order(self) -> Schedule:
        """The schedule.

        Raises
        ------
        InputError: nothing is called so.
        """
        return schedule_of(self.schedule)

    @property
    def pieces(self) -> int:
        """Into how many pieces all layers are cut."""
        return self.order.pieces(self.pipeline, self.virtual)

    @property
    def vocabulary_ranks(self) -> int:
        """That share the rows of embedding and head."""
        return self.tensor * (self.pipeline if self.vocabulary else 1)

    @property
    def gpus(self) -> int:
        """Ranks in all."""
        return self.tensor * self.context * self.pipeline * self.data

    @property
    def micro_batches(self) -> int:
        """That a replica computes in a step."""
        return self.sequences // (self.data * self.micro_batch)

    def _size(self, dimension: str) -> int:
        return {"tp": self.tensor, "cp": self.context, "dp": self.data, "pp": self.pipeline}[dimension]

    def apart(self, dimension: str) -> int:
        """How far neighbours along a dimension stand from each other."""
        return math.prod(self._size(other) for other in self.laid[: self.laid.index(dimension)])

    def inside(self, node: int, *dimensions: str) -> int:
        """Ranks of a group of dimensions that share a node of so many."""
        found, row, apart = 1, 1, 1
        for dimension in self.laid:
            if dimension in dimensions:
                if row == 1:
                    apart = self.apart(dimension)
                row *= self._size(dimension)
            elif self._size(dimension) > 1:
                found, row = found * max(1, min(row, node // apart)), 1
        return found * max(1, min(row, node // apart))

    @property
    def replicas(self) -> int:
        """Ranks that sum gradients of the same parameters."""
        return self.data * self.context

    @property
    def sharing(self) -> int:
        """Ranks that share one copy of what is in shards."""
        return self.shard_ranks if self.shard_ranks > 1 else self.replicas

    @property
    def sharing_weights(self) -> int:
        """Ranks that share one copy of the weights."""
        return self.sharing if self.shards == 3 else 1


_MOST_LAYERS, _MOST_PARTS, _MOST_PASSES = 2**14, 2**12, 2**21
"""of a model, and of a step that is played pass by pass"""


def divisors(size: int) -> list[int]:
    """All divisors, from small to large."""
    low = [d for d in range(1, math.isqrt(size) + 1) if size % d == 0]
    return low + [size // d for d in reversed(low) if d * d != size]


def near_divisors(size: int, wanted: int) -> str:
    """The divisors of ``size`` on both sides of ``wanted``, in words."""
    found = divisors(size)
    below = [d for d in found if d < wanted]
    above = [d for d in found if d > wanted]
    return " or ".join(str(d) for d in (*below[-1:], *above[:1]))


def problems_of(cut: Cut, model: ModelSpec, seq: int, gpus: int | None = None) -> Iterator[Problem]:
    """What keeps this model from being cut like this, each under the column's name.

    Parameters
    ----------
    gpus: that the question names, if any.
    """
    if gpus is not None and cut.gpus != gpus:
        inner = cut.tensor * cut.context * cut.pipeline
        if gpus % inner:
            yield Problem(
                f"{inner} ranks of tensor, context and pipeline parallelism do not divide {gpus} GPUs: "
                f"{near_divisors(gpus, inner)} would",
                path="gpus",
            )
        else:
            yield Problem(
                f"{cut.tensor} x {cut.context} x {cut.pipeline} x {cut.data} ranks are {cut.gpus}, not {gpus}: "
                f"with dp {gpus // inner} they are",
                path="dp",
            )
    yield from _of_model(cut, model, seq)
    yield from _of_stages(cut, model)
    if cut.replicas % cut.sharing:
        yield Problem(
            f"{cut.sharing} ranks that share parameters do not divide {cut.replicas} replicas: "
            f"{near_divisors(cut.replicas, cut.sharing)} would",
            path="fsdp",
        )
    if sorted(cut.laid) != sorted(LAID):
        yield Problem(f"expected each of {', '.join(LAID)} once, not {'-'.join(cut.laid)}", path="rank_order")
    together = cut.data * cut.micro_batch
    if cut.sequences % together:
        below = cut.sequences // together * together
        yield Problem(
            f"{cut.sequences} sequences do not divide into micro-batches of {cut.micro_batch} on {cut.data} replicas: "
            f"{f'{below} or ' if below else ''}{below + together} would",
            path="global_batch",
        )


def _of_model(cut: Cut, model: ModelSpec, seq: int) -> Iterator[Problem]:
    if model.heads % cut.tensor:
        yield Problem(
            f"{model.heads} heads do not divide among {cut.tensor} ranks: {near_divisors(model.heads, cut.tensor)} "
            "would",
            path="tp",
        )
    if seq % (cut.context * (cut.tensor if cut.sequence_parallel else 1)):
        yield Problem(f"{seq} tokens do not divide among {cut.context} ranks of context parallelism", path="cp")
    if model.moe is not None and model.moe.experts % cut.experts:
        yield Problem(
            f"{model.moe.experts} experts do not divide among {cut.experts} ranks: "
            f"{near_divisors(model.moe.experts, cut.experts)} would",
            path="ep",
        )
    if model.moe is None and cut.experts > 1:
        yield Problem(f"'{model.name}' has no experts: 1 would do", path="ep")
    elif cut.replicas * cut.tensor % cut.experts:
        yield Problem(
            f"{cut.experts} ranks of experts are not made of the {cut.replicas * cut.tensor} ranks of a stage: "
            f"{near_divisors(cut.replicas * cut.tensor, cut.experts)} would",
            path="ep",
        )
    if cut.shards == 3 and cut.pipeline > 1:
        yield Problem(
            "parameters in shards (ZeRO 3) would be gathered again for every micro-batch of every stage: pp 1, or "
            "shards 1",
            path="pp",
        )


def _of_stages(cut: Cut, model: ModelSpec) -> Iterator[Problem]:
    pieces = cut.pieces
    if pieces > model.layers and pieces != model.layers + 2 and not cut.layers:
        parts = f"{cut.pipeline} stages" + (f" of {cut.virtual} parts" if cut.virtual > 1 else "")
        yield Problem(f"{parts} are more than the {model.layers} layers of '{model.name}'", path="pp")
    if model.layers > _MOST_LAYERS:
        yield Problem(
            f"{model.layers} layers are more than the {_MOST_LAYERS} of the largest that is timed", path="layers"
        )
    if pieces > _MOST_PARTS:
        yield Problem(f"{pieces} parts are more than the {_MOST_PARTS} that are played", path="pp")
    elif not cut.order.recurs and cut.micro_batches * pieces > _MOST_PASSES:
        yield Problem(f"{cut.micro_batches} micro-batches are too many to be played one by one", path="global_batch")
    elif cut.pipeline > 1 and cut.micro_batches:
        yield from cut.order.problems(cut.pipeline, cut.virtual, cut.micro_batches)
    if cut.virtual > 1 and cut.pipeline == 1:
        yield Problem("a lone stage has no virtual ones: 1 would do", path="vp")
    elif cut.pipeline > 1 and cut.order.parts not in (None, cut.virtual):
        parts = f"{cut.order.parts} part{'' if cut.order.parts == 1 else 's'}"
        yield Problem(f"a stage of '{cut.schedule}' has {parts}, not {cut.virtual}", path="vp")
    if cut.vocabulary and (cut.pipeline == 1 or cut.order.chains > 1):
        yield Problem("one chain of several stages shares a vocabulary: 0 would do", path="vocab_parallel")
    if cut.layers and (len(cut.layers) != pieces or sum(cut.layers) != model.layers):
        yield Problem(
            f"{len(cut.layers)} pieces of {sum(cut.layers)} layers in all are not the {pieces} of the {model.layers} "
            f"layers of '{model.name}'",
            path="stages",
        )
