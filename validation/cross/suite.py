"""CROSS on TPUs (arXiv 2501.07047): modular products and transforms in microseconds, transforms a second.

One figure calibrates: Barrett products at batch 1, from which the share of counted lane operations that is left
after compiling follows (configs/chips/tpu_v6e.yaml). Everything else is predicted.
"""

from __future__ import annotations

import functools
from statistics import median
from typing import Any

from archsim.runs import run
from archsim.units import MICRO
from archsim.validation.framework import FOLDER, Claims, Row, answered
from archsim.validation.information import Figure

# NTT throughput: points R x C and limbs of each set, best of these batches (jaxite_word/ntt_mm_perf_test.py).
_SETS = {"A": (128, 32, 4), "B": (128, 64, 8), "C": (128, 128, 16)}
_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)


@functools.cache
def seconds(
    chip: str, operation: str, reduction: str, batch: int, rows: int = 256, columns: int = 256, limbs: int = 51
) -> float:
    """Time of one operator."""
    workload: dict[str, Any] = {
        "kind": "modular_arithmetic",
        "operation": operation,
        "reduction": reduction,
        "rows": rows,
        "columns": columns,
        "limbs": limbs,
        "batch": batch,
        "polynomials": 2 if operation == "modmul" else 1,
    }
    return run({"name": "cross", "chip": chip, "workload": workload}).time_s


def throughput(chip: str, name: str) -> float:
    """Transforms of one limb a second at the best batch, Montgomery reduction."""
    rows, columns, limbs = _SETS[name]
    return max(b * limbs / seconds(chip, "ntt", "montgomery", b, rows, columns, limbs) for b in _BATCHES)


def rows() -> list[Row]:
    """All figures of the microbenchmarks on TPU v6e, and the throughputs on the four chips."""
    from archsim.config import load_spec

    simulated: dict[tuple[str, str], float] = {}
    for claim in load_spec(FOLDER / "cross" / "claims.yaml", Claims).claims:
        kind, *words = claim.case.split()
        if kind == "set":
            simulated[claim.case, claim.metric] = throughput(f"tpu_{words[1]}", words[0])
        else:
            reduction, batch = words[0], int(words[2])
            simulated[claim.case, claim.metric] = seconds("tpu_v6e", kind, reduction, batch) / MICRO
    return answered("cross", simulated)


def information() -> list[Figure]:
    """How the errors of the predicted figures are distributed."""
    figures: list[Figure] = []
    predicted = [row for row in rows() if row["role"] == "validation"]
    for kind, what in (("modmul", "modular products"), ("ntt", "transforms"), ("set", "transforms a second")):
        errors = sorted(100 * abs(row["error"]) for row in predicted if row["case"].startswith(kind))
        near = sum(error <= 15 for error in errors)
        remark = f"{near} of {len(errors)} within 15%, worst {errors[-1]:.0f}%"
        figures.append(Figure(what, "median of the absolute errors", "%", median(errors), remark))
    return figures
