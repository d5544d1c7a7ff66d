"""Lowering convolutions to matrix products on the fly: which input a lowered element is, and what must be kept."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from archsim.workloads.op import Conv


def windows(conv: Conv) -> npt.NDArray[np.int64]:
    """Where each tap of each window lies: flat positions [windows, taps] of one channel, -1 in the padding.

    A convolution has a window of inputs per output, a transposed one a window of outputs per input.
    """
    small, large = (conv.size, conv.out_size()) if conv.transposed else (conv.out_size(), conv.size)
    dimensions = len(small)
    flat = np.zeros((1,) * (2 * dimensions), np.int64)
    inside = np.ones((1,) * (2 * dimensions), np.bool_)
    for d in range(dimensions):
        at = np.arange(small[d])[:, None] * conv.stride[d] - conv.padding[d][0]
        at = at + np.arange(conv.kernel[d]) * conv.dilation[d]
        shape = [1] * (2 * dimensions)
        shape[d], shape[dimensions + d] = at.shape
        at = at.reshape(shape)
        flat = flat * large[d] + at
        inside = inside & (at >= 0) & (at < large[d])
    return np.where(inside, flat, -1).reshape(math.prod(small), math.prod(conv.kernel))


def line_buffer_elements(conv: Conv) -> int:
    """Elements that must be kept for every input to be read once, in order: from a window's first to its last."""
    large = conv.out_size() if conv.transposed else conv.size
    reach = 0
    for d, size in enumerate(large):
        # No tap lies further away than the border.
        reach = reach * size + min(conv.dilation[d] * (conv.kernel[d] - 1), size - 1)
    channels = conv.out_channels if conv.transposed else conv.in_channels
    return channels * (reach + 1)
