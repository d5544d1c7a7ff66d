"""How long row-wise kernels of a GPU take: norms, softmax, activations, rotary embedding, residuals, gathers.

A row is one block of threads that takes a start and its columns one after the other; rows share the SMs. That overlaps
with moving the rows' bytes, faster where they stay in the L2. Rows longer than a block can hold are read again.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import Field

from archsim.components.compute.gpu_chip import Floats, GpuChip, columns, overlapped
from archsim.errors import InputError, nearest
from archsim.spec import Share, Spec

NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]


class RowFunctionSpec(Spec):
    """One kernel."""

    passes: Positive
    """times that an element of the row is moved from or to the memory"""
    row_cycles: NotNegative
    """start and end of a row"""
    column_cycles: NotNegative
    """of an element of a row"""
    rows_in_flight: Positive
    """rows that an SM works on at a time"""
    block_columns: Positive | None = None
    """elements that a block of a function of single elements works on; None: the function works on rows"""
    held_columns: Positive | None = None
    """columns of a row that a block holds; None: any"""
    rereading_passes: NotNegative = 0.0
    """further passes over the columns beyond those"""


class ElementwiseKernelsSpec(Spec):
    """Row-wise kernels, the same on all chips of a vendor."""

    functions: dict[str, RowFunctionSpec]
    """by name"""
    memory_efficiency: Share
    """share of the memory's peak that streams reach"""
    launch_us: NotNegative
    """of a kernel"""
    overlap_exponent: Annotated[float, Field(ge=1)]
    """norm in which computing and moving add up"""
    l2_share: Positive
    """of the L2: elements of two passes up to this many bytes stay in it"""
    l2_time_share: Share
    """time of moving what stays in the L2 beside what does not"""


def elementwise(
    chip: GpuChip, kernels: ElementwiseKernelsSpec, function: str, rows: Any, width: Any, element_bytes: float = 2.0
) -> tuple[Floats, Floats, Floats]:
    """Seconds of one kernel over [rows, width], and bytes to and from the L2 and the memory; [shapes].

    Raises
    ------
    InputError: no kernel of this name is known.
    """
    known = kernels.functions
    if function not in known:
        raise InputError(f"no kernel of function '{function}' is known: {nearest(function, known)}")
    spec = known[function]
    rows, width = columns(rows, width)
    elements = rows * width
    passes = np.full(rows.shape, spec.passes)
    if spec.held_columns is not None:
        passes = passes + spec.rereading_passes * np.maximum(0.0, 1.0 - spec.held_columns / width)
    block = width if spec.block_columns is None else np.minimum(elements, spec.block_columns)
    turns = np.maximum(1.0, elements / block / (chip.sms * spec.rows_in_flight))
    compute_s = turns * (spec.row_cycles + block * spec.column_cycles) / chip.clock_hz
    memory_s = elements * element_bytes * passes / (chip.memory_bytes_per_s * kernels.memory_efficiency)
    stays = elements * element_bytes * 2 < kernels.l2_share * chip.l2_bytes
    memory_s = memory_s * np.where(stays, kernels.l2_time_share, 1.0)
    seconds = overlapped(compute_s, memory_s, kernels.overlap_exponent) + kernels.launch_us * 1e-6
    moved = elements * element_bytes * passes
    return seconds, moved, np.where(stays, 0.0, moved)
