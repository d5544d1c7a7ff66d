"""Convolutions lowered to products: values and counts against the definition, tap by tap."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from depth import examples
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import archsim
from archsim.components.compute.convolution import line_buffer_elements, windows
from archsim.errors import ArchsimError, InputError
from archsim.workloads.convolutions import Convolution, read_topology
from archsim.workloads.op import Conv, DType


@st.composite
def convolutions(draw: st.DrawFn, transposed: bool | None = None) -> Conv:
    dimensions = draw(st.integers(1, 3))

    def each(most: int, least: int = 1) -> tuple[int, ...]:
        return tuple(draw(st.integers(least, most)) for _ in range(dimensions))

    groups = draw(st.integers(1, 3))
    try:
        return Conv(
            name="c",
            batch=draw(st.integers(1, 2)),
            groups=groups,
            in_channels=groups * draw(st.integers(1, 2)),
            out_channels=groups * draw(st.integers(1, 2)),
            size=each(6 if dimensions < 3 else 4),
            kernel=each(3),
            stride=each(3),
            dilation=each(2),
            padding=tuple(zip(each(2, 0), each(2, 0), strict=True)),
            output_padding=(0,) * dimensions,
            transposed=draw(st.booleans()) if transposed is None else transposed,
            line_buffer=draw(st.booleans()),
            left_dtype=DType.INT8,
            right_dtype=DType.INT8,
            out_dtype=DType.INT32,
        )
    except InputError:
        assume(False)
        raise


def naive(conv: Conv, x: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, int, set[Any]]:
    """Values of the definition, the multiplications it takes with those by padding, and the inputs it reads."""
    out = np.zeros((conv.batch, conv.out_channels, *conv.out_size()), np.int64)
    macs, read = 0, set()
    filters, channels = conv.out_channels // conv.groups, conv.in_channels // conv.groups
    every = itertools.product(
        *(range(conv.batch), range(conv.groups), range(filters), range(channels)),
        *(range(size) for size in (conv.size if conv.transposed else conv.out_size())),
        *(range(size) for size in conv.kernel),
    )
    dimensions = len(conv.size)
    for b, g, f, c, *rest in every:
        one, tap = tuple(rest[:dimensions]), tuple(rest[dimensions:])
        other = tuple(
            one[d] * conv.stride[d] - conv.padding[d][0] + tap[d] * conv.dilation[d] for d in range(dimensions)
        )
        macs += 1
        source, sink = (one, other) if conv.transposed else (other, one)
        fits = all(0 <= at < size for at, size in zip(source, conv.size, strict=True))
        if fits and all(0 <= at < size for at, size in zip(sink, conv.out_size(), strict=True)):
            value = x[(b, g * channels + c, *source)]
            out[(b, g * filters + f, *sink)] += value * w[(g * filters + f, c, *tap)]
            read.add((b, g * channels + c, *source))
    return out, macs, read


def lowered(conv: Conv, x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """The same through products of the op's sizes."""
    at, taps = windows(conv), math.prod(conv.kernel)
    filters, channels = conv.out_channels // conv.groups, conv.in_channels // conv.groups
    out = np.zeros((conv.batch, conv.out_channels, math.prod(conv.out_size()) + 1), np.int64)
    for g in range(conv.groups):
        mine = w[g * filters : (g + 1) * filters].reshape(filters, channels, taps)
        inputs = x[:, g * channels : (g + 1) * channels].reshape(conv.batch, channels, -1)
        if conv.transposed:
            left = inputs.transpose(0, 2, 1).reshape(-1, channels)
            right = mine.transpose(1, 0, 2).reshape(channels, filters * taps)
            assert (*left.shape, right.shape[1]) == (conv.m, conv.k, conv.n)
            products = (left @ right).reshape(conv.batch, -1, filters, taps)
            for b, i, f, t in np.ndindex(*products.shape):
                out[b, g * filters + f, at[i, t]] += products[b, i, f, t]
        else:
            padded = np.concatenate([inputs, np.zeros((conv.batch, channels, 1), np.int64)], axis=2)
            left = padded[:, :, at].transpose(0, 2, 1, 3).reshape(-1, channels * taps)
            right = mine.reshape(filters, channels * taps).T
            assert (*left.shape, right.shape[1]) == (conv.m, conv.k, conv.n)
            products = (left @ right).reshape(conv.batch, -1, filters).transpose(0, 2, 1)
            out[:, g * filters : (g + 1) * filters, :-1] = products
    # Position -1, the last, is the padding.
    return out[:, :, :-1].reshape(conv.batch, conv.out_channels, *conv.out_size())


@settings(deadline=None, max_examples=examples(120))
@given(convolutions(), st.integers(0, 2**32 - 1))
def test_values_and_counts(conv: Conv, seed: int) -> None:
    draw = np.random.default_rng(seed)
    x = draw.integers(-9, 9, (conv.batch, conv.in_channels, *conv.size))
    w = draw.integers(-9, 9, (conv.out_channels, conv.in_channels // conv.groups, *conv.kernel))
    values, macs, read = naive(conv, x, w)
    assert (lowered(conv, x, w) == values).all()
    assert conv.macs() == macs
    if conv.transposed:
        assert conv.left_bytes() == x.size
        assert conv.out_bytes() == 4 * (values.size if conv.line_buffer else conv.groups * conv.m * conv.n)
    else:
        assert conv.left_bytes() == (len(read) if conv.line_buffer else conv.groups * conv.m * conv.k)
        assert conv.out_bytes() == 4 * values.size
    assert conv.right_bytes() == w.size


@settings(deadline=None)
@given(convolutions(transposed=False))
def test_a_line_buffer_reads_each_input_once(conv: Conv) -> None:
    """Inputs enter in order; all of a window are still there when its last one has come."""
    kept = line_buffer_elements(conv) // conv.in_channels
    for window in windows(conv):
        inside = window[window >= 0]
        assert inside.size == 0 or inside.max() - inside.min() < kept


def test_depthwise_and_pointwise() -> None:
    depthwise = layer(in_channels=32, out_channels=32, size=112, kernel=3, padding=1, groups=32)
    assert (depthwise.groups, depthwise.m, depthwise.k, depthwise.n) == (32, 112 * 112, 9, 1)
    pointwise = layer(in_channels=32, out_channels=64, size=112, kernel=1)
    assert (pointwise.groups, pointwise.m, pointwise.k, pointwise.n) == (1, 112 * 112, 32, 64)
    assert pointwise.left_bytes() == 32 * 112 * 112


@pytest.mark.parametrize(("size", "kernel", "stride"), [(224, 7, 2), (225, 3, 2), (5, 2, 3), (7, 4, 1)])
@pytest.mark.parametrize("transposed", [False, True])
def test_same_padding(size: int, kernel: int, stride: int, transposed: bool) -> None:
    op = layer(size=size, kernel=kernel, stride=stride, padding="same", dimensions=1, transposed=transposed)
    expected = size * stride if transposed else -(-size // stride)
    if not transposed or kernel >= stride:
        assert op.out_size() == (expected,)


def layer(**given: Any) -> Conv:
    shape = {"name": "c", "in_channels": 1, "out_channels": 1, **given}
    return Convolution(**shape).op(1, DType.INT8, DType.INT8, line_buffer=True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 2, "kernel": 3},
        {"size": 4, "kernel": 3, "groups": 2},
        {"size": [4, 4], "kernel": [3, 3, 3]},
    ],
)
def test_what_is_no_convolution(wrong: dict[str, Any]) -> None:
    workload = {"kind": "convolutions", "layers": [{"name": "c", "in_channels": 1, "out_channels": 1, **wrong}]}
    with pytest.raises(ArchsimError, match="'c'"):
        archsim.run({"name": "r", "chip": "edge_npu_32x32", "workload": workload})


def run_bytes(lowering: str) -> tuple[float, int]:
    shape = {"name": "c", "in_channels": 64, "out_channels": 64, "size": 56, "kernel": 3, "padding": 1}
    workload = {"kind": "convolutions", "layers": [shape], "lowering": lowering}
    answer = archsim.run({"name": "r", "chip": "edge_npu_32x32", "workload": workload}).to_json()
    return answer["time_s"], answer["ops"][0]["bytes"]


def test_a_lowered_matrix_in_memory_costs_its_traffic() -> None:
    buffered, full = run_bytes("line_buffer"), run_bytes("im2col")
    assert full[1] > buffered[1]
    assert full[0] >= buffered[0]


def test_topology_file(tmp_path: Path) -> None:
    file = tmp_path / "net.csv"
    header = "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,\n"
    file.write_text(header + "Conv1, 224, 224, 7, 7, 3, 64, 2,\nFC, 1, 1, 1, 1, 512, 10, 1,\n")
    first, second = read_topology(file)
    assert first.op(1, DType.INT8, DType.INT8, True).out_size() == (110, 110)  # rounded up, as SCALE-Sim does
    assert second.op(1, DType.INT8, DType.INT8, True).macs() == 5120
    for size, taps, stride in itertools.product(range(1, 20), range(1, 6), range(1, 5)):
        if taps > size:
            continue
        file.write_text(header + f"L, {size}, {size}, {taps}, {taps}, 3, 64, {stride},\n")
        out = read_topology(file)[0].op(1, DType.INT8, DType.INT8, True).out_size()
        assert out == (math.ceil((size - taps + stride) / stride),) * 2
    file.write_text(header + "Conv1, 224, 224, 7, 7, 3, 64, 2,\nFC, 1, 1, 1, 1, 512, 10, 1,\n")
    workload = {"kind": "convolutions", "topology": str(file)}
    assert len(archsim.run({"name": "r", "chip": "edge_npu_32x32", "workload": workload}).to_json()["ops"]) == 2
    file.write_text(header + "Conv1, 224, 224, seven, 7, 3, 64, 2,\n")
    with pytest.raises(InputError, match="7 whole numbers"):
        read_topology(file)


def test_resnet50() -> None:
    """4.09 G multiplications and 25.5 M weights of an image of 224 x 224."""
    program = archsim.run("resnet50_on_edge_npu").to_json()
    assert sum(op["flops"] for op in program["ops"]) == pytest.approx(2 * 4.09e9, rel=2e-3)
