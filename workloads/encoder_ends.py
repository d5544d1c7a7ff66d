"""What an encoder has before its first layer and after its last."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archsim.workloads.op import Attention, Conv, Op, Role
from archsim.workloads.passes import Pass

if TYPE_CHECKING:
    from archsim.workloads.transformer_rank import RankOps


def convolutions(rank: RankOps, step: Pass, bins: int) -> list[Op]:
    """Two convolutions make the tokens of a spectrogram of twice as many frames (Whisper)."""
    model, f = rank.model, rank.formats

    def convolution(name: str, channels: int, frames: int, stride: int) -> list[Op]:
        made = Conv(
            name=name,
            batch=step.batch,
            in_channels=channels,
            out_channels=model.hidden,
            size=(frames,),
            kernel=(3,),
            stride=(stride,),
            dilation=(1,),
            padding=((1, 1),),
            output_padding=(0,),
            bias=True,
            left_dtype=f.activation,
            right_dtype=f.table,
            out_dtype=f.activation,
        )
        rows = step.batch * frames // stride
        return [made, rank.vector(f"{name}_activation", model.activation, rows, model.hidden)]

    frames = 2 * step.q_len
    return [
        *convolution("convolution", bins, frames, 1),
        *convolution("strided_convolution", model.hidden, frames, 2),
    ]


def attention_pool(rank: RankOps, step: Pass) -> list[Op]:
    """A learned query of each sequence attends to all of its outputs; an MLP comes after it (SigLIP)."""
    model, f, one = rank.model, rank.formats, step.sequences
    width = rank.heads * model.head_dim
    attention = Attention(
        name="pool_attention",
        batch=step.batch,
        heads=rank.heads,
        kv_heads=rank.kv_heads,
        q_len=1,
        kv_len=step.kv_len,
        head_dim=model.head_dim,
        v_head_dim=model.head_dim,
        causal=False,
        dtype=f.activation,
        kv_dtype=f.activation,
        kv_role=Role.ACTIVATION,
    )
    return [
        rank.vector("probe", "convert", one, model.hidden, weights=model.hidden),
        rank.linear("pool_q", one, model.hidden, width, bias=True),
        rank.linear("pool_kv", step.tokens, model.hidden, 2 * width, bias=True),
        attention,
        rank.linear("pool_out", one, width, model.hidden, bias=True),
        *rank.all_reduce(one, "pool_out"),
        rank.norm("pool_norm", one),
        *rank.mlp(one, rank.inner, "pool_", bias=True),
        *rank.all_reduce(one, "pool_down"),
    ]
