"""What makes tokens of sound and of images, before the first layer of an encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archsim.workloads.op import Conv, Op
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
