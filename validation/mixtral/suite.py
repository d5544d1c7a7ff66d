"""The expert layer of Mixtral 8x7B on an H100, measured: a fused kernel in BF16, tokens spread evenly.

The parameters of the kernel are shared by all models, chips and loads (``configs/calibrations``).
"""

from __future__ import annotations

from archsim.config import load_spec
from archsim.kernels import answer
from archsim.machine import ChipSpec
from archsim.validation.framework import Claim, Row, cases, row

_HIDDEN, _INTERMEDIATE, _EXPERTS, _TOP_K = 4096, 14336, 8, 2
_SOURCE = "measured kernels of aiconfigurator's data base (Apache-2.0), H100 SXM, BF16, balanced"
_CAUSE = "the kernel's tiles come from a table tuned for this model; the calibration is shared by all"


def rows() -> list[Row]:
    """A row per measured point."""
    chip = load_spec("h100_sxm", ChipSpec, category="chips")
    layer = {
        "hidden": _HIDDEN,
        "inter": _INTERMEDIATE,
        "experts": _EXPERTS,
        "topk": _TOP_K,
        "distribution": "balanced",
        "dtype": "bf16",
    }
    points = cases("mixtral")
    asked = [layer | {name: int(point[name]) for name in ("num_tokens", "tp", "ep")} for point in points]
    return [
        row(
            "mixtral",
            Claim(
                case=f"{point['num_tokens']} tokens, TP {point['tp']}, EP {point['ep']}",
                metric="latency",
                unit="us",
                published=float(point["latency_us"]),
                tolerance=0.15,
                role="validation",
                source=_SOURCE,
                cause=_CAUSE,
            ),
            float(answered["latency_us"]),
        )
        for point, answered in zip(points, answer(chip, "moe", asked), strict=True)
    ]
