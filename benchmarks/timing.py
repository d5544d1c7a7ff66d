"""CPU time of a call, the way every benchmark here takes it."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median


def cpu_s(call: Callable[[], object], runs: int = 5) -> float:
    """Median CPU seconds of a call after one warm-up."""
    call()
    seconds = []
    for _ in range(runs):
        start = time.process_time()
        call()
        seconds.append(time.process_time() - start)
    return median(seconds)
