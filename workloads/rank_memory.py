"""What one rank of a transformer holds: parameters, KV cache, activations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from archsim.workloads.dims import Dim
from archsim.workloads.limits import check_op
from archsim.workloads.op import Role
from archsim.workloads.program import Segment
from archsim.workloads.tensors import stored_bytes
from archsim.workloads.top_k_attention import PASSING

if TYPE_CHECKING:
    from archsim.workloads.transformer_rank import RankOps


def weight_bytes(rank: RankOps, segment: Segment, stage: range | None = None) -> int:
    """Bytes of all parameters of this rank: the operands of the ops, each once, and the tables.

    Biases and norms are held in the format of the activations, as the ops read them. Of a stage of a pipeline those
    of its layers; the first one has the tables.
    """
    model, table_dtype = rank.model, rank.formats.table
    width = model.embedding_width or model.hidden
    layers = range(model.layers) if stage is None else stage
    tabled = (model.encoder is None or model.encoder.table) and not layers.start
    table = int(table_dtype.bytes(rank.vocab * width)) if tabled else 0
    total = table
    if model.positions == "learned" and not layers.start:
        total += int(table_dtype.bytes((model.max_positions + model.position_offset) * model.hidden))
    positions = None if model.encoder is None else model.encoder.disentangled
    if model.encoder is not None:
        rows = model.encoder.token_types
        rows += 0 if positions is None else positions.distances + positions.norm_vectors
        total += int(table_dtype.bytes(rows * model.hidden))
    for block in segment.blocks:
        twice = {"lm_head"} if block.name == "prediction" else set()  # which are the model's
        if positions is not None and positions.shared:
            twice = {f"position_{name}" for name in positions.products}
        total += block.repeat * sum(stored_bytes(op) for op in block.ops if op.name not in twice)
    if model.looks_at is not None:
        total += weight_bytes(rank.tower(model.looks_at), Segment("tables", ()))
    if model.tower is not None and rank.spec.images:
        total += weight_bytes(rank.tower(model.tower), Segment("tables", ()))
    learned = (model.sinks * len(layers) + model.distance_buckets) * rank.heads
    total += int(rank.formats.activation.bytes(learned))
    tied = model.tied_embeddings and model.encoder is None and len(layers) == model.layers
    total -= table if tied else 0
    return total


def kv_bytes(rank: RankOps, final: Sequence[tuple[int, int]], drafting: int = 0) -> int:
    """Bytes of the KV cache when the given (sequences, tokens) are cached; ``drafting`` more layers."""
    model = rank.model
    if model.encoder is not None:
        return 0
    element = model.mla.kv_elements if model.mla is not None else 2 * rank.kv_heads * model.head_dim
    layers = model.layers + (drafting if rank.spec.mtp_acceptance is None else model.mtp_layers)
    windowed = model.windowed(layers)
    full, seen = layers - model.recurrent_layers - windowed, model.window or 0
    crossed = model.layers * rank.spec.encoded
    kept = sum(count * (windowed * min(length, seen) + full * length + crossed) for count, length in final)
    return int(rank.formats.kv.bytes(kept * element))


def activation_bytes(rank: RankOps, segments: Sequence[Segment], tokens: int) -> int:
    """The residual stream and the operands of the op that has most of them."""
    largest = 0
    for op in {id(op): op for s in segments for b in s.blocks for op in b.ops}.values():
        check_op(op)
        if op.name in PASSING:
            continue
        live: Dim = op.reads().get(Role.ACTIVATION, 0) + op.writes().get(Role.ACTIVATION, 0)
        largest = max(largest, int(np.max(live)))
    return largest + int(rank.formats.activation.bytes(tokens * rank.model.hidden))
