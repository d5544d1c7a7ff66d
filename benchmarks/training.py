"""Steps of training: one, a table of them, and all plans of one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from archsim.training.cases import answers, setup_of
from archsim.training.plans import plans
from benchmarks.row import Row, below
from benchmarks.timing import cpu_s

_GPT3 = {"model": "gpt3-175b", "system": "selene", "global_batch": "1536", "precision": "fp16", "seq": "2048"}


def measure() -> Iterator[Row]:
    """Times with what is shipped read and each kernel timed, or not."""
    step = {**_GPT3, "gpus": "1024", "micro_batch": "1", "tp": "8", "pp": "16", "recompute": "full"}
    answers([step])
    yield below("a step of GPT-3 175B on 1,024 GPUs, kernels known", cpu_s(lambda: answers([step])), 0.5)
    rows = [
        {"gpus": "8", "hidden": h, "heads": "16", "layers": n, "seq": "1024", "tp": tp, "pp": pp, "micro_batch": m}
        | {"global_batch": "128"}
        for h, n, tp, pp, m in itertools.product(
            ("1024", "2048"), ("12", "16", "20", "24"), ("1", "2", "4", "8"), ("1", "2", "4"), ("1", "2", "4", "8")
        )
        if int(tp) * int(pp) <= 8
    ]
    took = cpu_s(lambda: answers(rows))
    yield below(f"{len(rows)} steps of small GPTs on 8 GPUs", took, 0.08 * len(rows), "60 s for 755 on one core")
    setup = setup_of({**_GPT3, "micro_batch": "1"})
    found = plans(setup, 1024)
    yield below(f"{len(found)} plans of it", cpu_s(lambda: plans(setup, 1024), 1), 0.12 * len(found), "240 s of 2,000")
