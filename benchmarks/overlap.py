"""A sublayer under track and trigger, and the paper's whole comparison, memory command by command."""

from __future__ import annotations

import time
from collections.abc import Iterator

from archsim.alone.t3 import QUESTION, SUBLAYERS, told, ways_of
from archsim.validation.t3 import suite
from benchmarks.row import Row, below
from benchmarks.timing import cpu_s


def _sublayer(**more: str) -> None:
    case = {"model": "t-nlg", "sublayer": "fc2", "tp": "8", "tokens": "8192", "memory": "command"}
    asked = QUESTION.case(case | more)
    told(ways_of(asked), asked)


def measure() -> Iterator[Row]:
    """Rows of the benchmark."""
    how = "FC-2 of T-NLG: the GEMM alone and under T3-MCA, every way beside it"
    yield below("a sublayer on 8 folded GPUs, by commands", cpu_s(_sublayer, 3), 2, how, digits=2)
    how = "the same, all ranks played; equal cycles"
    yield below("a sublayer on 8 GPUs, by commands", cpu_s(lambda: _sublayer(unfolded="yes"), 1), 8, how, digits=2)
    start = time.process_time()
    for model, ranks in (*suite.SMALL, *suite.LARGE):
        for name in SUBLAYERS:
            suite.sublayer(model, ranks, name, memory="command")
    how = "GEMM, round robin and MCA of each; sublayers of equal sizes once"
    yield below("T3: 5 models, 4 sublayers, every TP, by commands", time.process_time() - start, 60, how, digits=1)
