"""GEMM kernels of a GPU, many at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from archsim.config import load_spec
from archsim.kernels import answer
from archsim.machine import ChipSpec
from benchmarks.row import Row, below
from benchmarks.timing import cpu_s

_SHAPES = 100_000


def measure() -> Iterator[Row]:
    """Rows of the table."""
    chip = load_spec("h100_sxm", ChipSpec, category="chips")
    sizes = np.random.default_rng(0).integers(64, 16_384, (_SHAPES, 3)).tolist()
    cases = [{"dtype": "bf16", "m": m, "n": n, "k": k} for m, n, k in sizes]
    seconds = cpu_s(lambda: answer(chip, "gemm", cases))
    yield below(f"{_SHAPES:,} GEMM kernels on an H100", seconds, 5, "one process, tables included", digits=2)
