"""Convolutional networks as a list of their layers, written in YAML or in SCALE-Sim's topology files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from archsim.config import File
from archsim.errors import InputError, Problem
from archsim.files import read_cells
from archsim.spec import Count, Spec, WorkloadSpec
from archsim.workloads.formats import ANYTHING, MachineFormats
from archsim.workloads.op import Conv, DType, Role
from archsim.workloads.program import Block, Program, Segment
from archsim.workloads.recorded import recorded_file

Zeros = Annotated[int, Field(ge=0, le=2**20, strict=True)]
Sizes = Count | Annotated[tuple[Count, ...], Field(min_length=1, max_length=3)]
"""One number for all dimensions, or one for each."""


class Convolution(Spec):
    """A layer, or several alike."""

    name: str
    in_channels: Count
    out_channels: Count
    size: Sizes
    """inputs per dimension; one number is a square"""
    kernel: Sizes
    """taps per dimension"""
    stride: Sizes = 1
    dilation: Sizes = 1
    """distance of taps"""
    padding: Literal["same"] | Zeros | Annotated[tuple[Zeros, ...], Field(min_length=1, max_length=3)] = 0
    """zeros at both ends, per dimension; ``same``: as many as give size / stride outputs, the odd one at the end"""
    groups: Count = 1
    """channels are divided into so many groups; as many as channels: depthwise"""
    transposed: bool = False
    output_padding: Zeros | Annotated[tuple[Zeros, ...], Field(min_length=1, max_length=3)] = 0
    """transposed: positions added at the end"""
    dimensions: Annotated[int, Field(ge=1, le=3, strict=True)] = 2
    """how many, where no list tells"""
    rounding: Literal["floor", "ceil"] = "floor"
    """of the outputs where the stride does not divide: whether the last window may reach beyond the end, over zeros"""
    bias: bool = False
    count: Count = 1
    """how often, one after the other, each time with other filters"""

    def op(self, batch: int, dtype: DType, out_dtype: DType, line_buffer: bool) -> Conv:
        """The layer as an op."""
        lists = [
            len(part)
            for part in (self.size, self.kernel, self.stride, self.dilation, self.padding, self.output_padding)
            if isinstance(part, tuple)
        ]
        dimensions = lists[0] if lists else self.dimensions

        def each(value: int | tuple[int, ...]) -> tuple[int, ...]:
            return value if isinstance(value, tuple) else (value,) * dimensions

        size, kernel, stride, dilation = each(self.size), each(self.kernel), each(self.stride), each(self.dilation)
        if self.padding == "same":
            padding = tuple(
                _same(*parts, self.transposed) for parts in zip(size, kernel, stride, dilation, strict=True)
            )
        else:
            padding = tuple((zeros, zeros) for zeros in each(self.padding))
        if self.rounding == "ceil" and not self.transposed:
            padding = tuple(
                (before, after + -(inputs + before + after - (taps - 1) * apart - 1) % step)
                for (before, after), inputs, taps, step, apart in zip(
                    padding, size, kernel, stride, dilation, strict=True
                )
            )
        return Conv(
            name="convolution",
            batch=batch,
            in_channels=self.in_channels,
            out_channels=self.out_channels,
            size=size,
            kernel=kernel,
            stride=stride,
            dilation=dilation,
            padding=padding,
            output_padding=each(self.output_padding),
            groups=self.groups,
            transposed=self.transposed,
            bias=self.bias,
            left_dtype=dtype,
            right_dtype=dtype,
            out_dtype=out_dtype,
            line_buffer=line_buffer,
        )


def _same(size: int, kernel: int, stride: int, dilation: int, transposed: bool) -> tuple[int, int]:
    reach = dilation * (kernel - 1) + 1
    zeros = max(0, reach - stride if transposed else (-(-size // stride) - 1) * stride + reach - size)
    return zeros // 2, zeros - zeros // 2


class ConvolutionsSpec(WorkloadSpec):
    """A list of convolutions, computed in order."""

    kind: Literal["convolutions"] = "convolutions"
    layers: tuple[Convolution, ...] = ()
    topology: Annotated[str, File("traces")] | None = None
    """a topology file of SCALE-Sim instead: name, input rows and columns, filter rows and columns, channels, filters,
    stride; inputs are padded already, and windows counted as SCALE-Sim does, rounded up"""
    batch: Count = 1
    dtype: DType = DType.INT8
    """format of inputs and filters"""
    out_dtype: DType | None = None
    """format of outputs; that of the inputs when absent"""
    lowering: Literal["line_buffer", "im2col"] = "line_buffer"
    """windows cut out on the fly, an input read once per pass; or from a lowered matrix in memory"""

    @model_validator(mode="after")
    def _check(self) -> ConvolutionsSpec:
        if bool(self.layers) == (self.topology is not None):
            raise ValueError("needs either layers or a topology")
        names = [layer.name for layer in self.layers]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two layers are called '{twice[0]}'")
        for layer in self.layers:
            try:
                layer.op(self.batch, self.dtype, self.dtype, line_buffer=True)
            except (InputError, ValueError) as error:
                raise ValueError(f"layer '{layer.name}': {error}") from None
        return self


def read_topology(file: Path) -> tuple[Convolution, ...]:
    """The layers of a SCALE-Sim topology file.

    Raises
    ------
    InputError: the file cannot be read, or a row is no layer.
    """
    layers, problems = [], []
    for line, (name, *cells) in read_cells(file)[1:]:
        if not name:
            continue
        sizes = [int(cell) if cell.isdecimal() and len(cell) < 10 else 0 for cell in cells[:7]]
        if len(sizes) < 7 or min(sizes) < 1:
            problems.append(
                Problem(
                    "expected a name and 7 whole numbers: input, filter, channels, filters, stride", str(file), line
                )
            )
            continue
        height, width, rows_of, columns, channels, filters, stride = sizes
        layers.append(
            Convolution(
                name=name,
                in_channels=channels,
                out_channels=filters,
                size=(height, width),
                kernel=(rows_of, columns),
                stride=stride,
                rounding="ceil",  # as SCALE-Sim counts windows
            )
        )
    if problems:
        raise InputError(problems)
    if not layers:
        raise InputError([Problem("it holds no layers", str(file))])
    return tuple(layers)


class ConvolutionsWorkload:
    """Convolutions as a program: a block for each, repeated ``count`` times."""

    Spec: ClassVar[type[ConvolutionsSpec]] = ConvolutionsSpec

    def __init__(self, spec: ConvolutionsSpec) -> None:
        self.spec = spec

    def program(self, capacity_bytes: int | None = None, formats: MachineFormats = ANYTHING) -> Program:
        """The program; ``capacity_bytes`` and ``formats`` change nothing."""
        spec = self.spec
        layers = spec.layers if spec.topology is None else read_topology(recorded_file(spec.topology))
        blocks, weights, live = [], 0, 0
        for layer in layers:
            op = layer.op(spec.batch, spec.dtype, spec.out_dtype or spec.dtype, spec.lowering == "line_buffer")
            blocks.append(Block(layer.name, (op,), layer.count))
            weights += layer.count * int(op.right_bytes())
            live = max(live, int(op.left_bytes() + op.out_bytes()))
        return Program(
            name="convolutions",
            segments=(Segment("convolutions", tuple(blocks)),),
            resident_bytes={Role.WEIGHT: weights, Role.KV: 0},
            activation_bytes=live,
        )
