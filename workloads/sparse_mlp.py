"""Experts of a layer on one rank: router, exchange of tokens, routed and shared experts, and their sum."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from archsim.workloads.expert_placement import busiest, place
from archsim.workloads.model import MixtureSpec
from archsim.workloads.op import Collective, DType, GroupedMatMul, Op, TokenExchange

if TYPE_CHECKING:
    from archsim.workloads.transformer_rank import RankOps


def experts(rank: RankOps, tokens: int, moe: MixtureSpec, counts: tuple[int, ...], most: bool = False) -> list[Op]:
    """Router, routed and shared experts; ``counts`` are the tokens of each expert of the whole group.

    Other ranks have fewer tokens where this has the ``most``.

    Where tokens travel, each rank of a tensor-parallel group has its part of them, and shared experts whole
    (vLLM's sequence-parallel mixture of experts).
    """
    model, ep, tp, travelling = rank.model, rank.spec.expert_parallel, rank.tp, rank.travelling
    if travelling:
        tokens, tp = -(-tokens // tp), 1
    copies = rank.spec.shared_expert_copies
    shared = [(tokens * ep + part) // copies for part in range(copies)]
    rows = busiest(place(counts, ep, rank.spec.redundant_experts, shared, rank.spec.expert_placement))
    visits = moe.experts_per_token + (1 if copies else 0)
    bias = moe.experts if moe.router_bias else 0
    ops: list[Op] = [
        rank.whole("router", tokens, model.hidden, moe.experts, moe.gate_bias),
        rank.vector("top_k", "router", tokens, moe.experts, weights=bias),
    ]
    # The busiest rank receives more than it sends; its port is the one that is waited for.
    sent = tokens * moe.experts_per_token if most else -(-sum(counts) // ep)
    kept = sent + (tokens if copies else 0) if travelling else tokens * visits
    carried, every = max(kept, sum(rows)), sum(counts) // moe.experts_per_token
    if travelling:
        ops.append(_exchange(rank, "dispatch", rank.formats.dispatch, carried, visits, every))
    # Nothing of the shared experts waits for the tokens that travel, so they stand before those that do.
    shared_ops: list[Op] = []
    if moe.shared_intermediate and not copies:
        shared_ops += rank.mlp(tokens, moe.shared_intermediate // tp, "shared_")
    if moe.shared_gate:
        shared_ops.append(rank.whole("shared_gate", tokens, model.hidden, 1))
    if shared_ops:
        ops += [replace(shared_ops[0], after=("top_k",)), *shared_ops[1:]]
    ops += _routed(rank, moe, rows, min(sum(rows), tokens * ep), "dispatch" if travelling else "top_k")
    if travelling:
        ops.append(_exchange(rank, "combine", rank.formats.activation, carried, visits, every))
    # weights of the experts times their outputs, summed with the shared experts'
    gathers = _gathers(rank)
    outputs = (1 if gathers else visits if travelling else -(-sum(rows) // tokens)) + (1 if shared_ops else 0)
    parts = ("combine" if travelling else "experts_down", *(op.name for op in shared_ops[-1:]))
    summed = rank.vector("experts_sum", "multiply", tokens, model.hidden, inputs=outputs)
    # A kernel of experts sums their outputs, not those that come back from other ranks, nor shared experts'.
    alone = (gathers or not travelling) and not shared_ops
    return [*ops, replace(summed, after=parts, within="experts_down" if alone else "")]


def _gathers(rank: RankOps) -> bool:
    """Whether all tokens go to all ranks."""
    return rank.travelling and rank.spec.expert_exchange == "gather"


def _exchange(
    rank: RankOps, name: Literal["dispatch", "combine"], dtype: DType, carried: int, visits: int, every: int
) -> Collective:
    """Tokens to their experts, or back: so many that a rank carries, or ``every`` one to all ranks."""
    hidden, ep = rank.model.hidden, rank.spec.expert_parallel
    if _gathers(rank):
        kind = "all_gather" if name == "dispatch" else "reduce_scatter"
        return Collective(name=name, collective=kind, bytes=dtype.bytes(every * hidden), ranks=ep)
    tokens = TokenExchange(name, carried, visits, hidden)
    size = dtype.bytes(carried * hidden)
    return Collective(name=name, collective="all_to_all", bytes=size, ranks=ep, exchange=tokens)


def _routed(rank: RankOps, moe: MixtureSpec, rows: tuple[int, ...], tokens: int, after: str) -> list[Op]:
    """Products and activation of the rank's experts, each with its rows."""
    model, f = rank.model, rank.formats
    inner = moe.expert_intermediate if rank.spec.expert_parallel > 1 else moe.expert_intermediate // rank.tp
    gates = model.mlp_matrices - 1
    up = GroupedMatMul(
        name="experts_gate_up" if model.mlp == "gated" else "experts_up",
        rows=rows,
        k=model.hidden,
        n=gates * inner,
        tokens=tokens,
        width=inner,
        left_dtype=f.expert_activation or (f.dispatch if rank.travelling else f.activation),
        right_dtype=f.expert or f.weight,
        scales=rank.scales,
        codewords=rank.codewords,
        bias=moe.expert_bias,
        out_dtype=f.activation,
        after=(after,),
    )
    down = replace(
        up,
        name="experts_down",
        k=inner,
        n=model.hidden,
        just_routed=False,
        left_dtype=f.expert_activation or f.activation,
        after=None,
    )
    activation = rank.vector("experts_activation", model.activation, sum(rows), inner, inputs=gates)
    return [up, replace(activation, within=up.name), down]
