"""Products while another kernel holds some SMs: 40 shapes of Llama-3-70B's layers on eight and on four ranks, on an
H100 (PyTorch 2.11, cuBLAS 13) beside a kernel that spins on 2, 4 and 8 SMs, each alone on its SM. The rule was seen on
them.
"""

from __future__ import annotations

import csv

import numpy as np

from archsim.config import load_spec
from archsim.machine import ChipSpec, Machine, SystemSpec
from archsim.model.component import MatrixEngine, MemoryView
from archsim.validation.framework import FOLDER, Claim, Row, row
from archsim.workloads.op import MatMul

_SOURCE = (
    "own measurement on an H100 SXM: the median of three times ten products, bf16, beside the shorter of two alone"
)
_AIM = 0.15
_CAUSE = (
    "libraries pick tiles by heuristics of their own: products of a wave or two whose tiles fit the SMs by chance, or "
    "are dealt to them beforehand, take up to twice as long as by waves of the largest tile"
)


def crowded() -> list[Row]:
    """Mean errors of how much longer products take, by how many SMs are held."""
    with (FOLDER / "chips" / "crowded.csv").open(newline="", encoding="utf-8") as stream:
        cases = list(csv.DictReader(stream))
    found = []
    for device in sorted({case["device"] for case in cases}):
        chip = load_spec(device, ChipSpec, category="chips")
        engine = Machine(SystemSpec(name=device, chip=chip)).engines["chip.sm"]
        memory = MemoryView(0, 0, True, True, 0)  # of which products of many rows ask nothing
        if not isinstance(engine, MatrixEngine):
            raise ValueError(f"{device} has no SMs")
        mine = [case for case in cases if case["device"] == device]
        for taken in (2, 4, 8):
            errors = []
            for case in mine:
                product = MatMul(name=case["op"], m=int(case["m"]), k=int(case["k"]), n=int(case["n"]))
                measured = float(case[f"beside_{taken}_us"]) / float(case["alone_us"])
                errors.append(abs(float(engine.crowded(product, taken, memory)) / measured - 1))
            claim = Claim(
                case=f"{device}, {len(mine)} products beside a kernel of {taken} SMs",
                metric="mean error of how much longer they take",
                unit="share",
                published=0.0,
                tolerance=_AIM,
                role="calibration",
                source=_SOURCE,
                cause=_CAUSE,
            )
            found.append(row("chips", claim, float(np.mean(errors))))
    return found
