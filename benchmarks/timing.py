"""CPU time of a call, the way every benchmark here takes it."""

from __future__ import annotations

import os
import resource
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from types import MappingProxyType


def cpu_s(call: Callable[[], object], runs: int = 5) -> float:
    """Median CPU seconds of a call after one warm-up."""
    call()
    seconds = []
    for _ in range(runs):
        start = time.process_time()
        call()
        seconds.append(time.process_time() - start)
    return median(seconds)


def process_cpu_s(
    command: Sequence[str], environment: Mapping[str, str] = MappingProxyType({}), check: bool = True
) -> tuple[float, str]:
    """CPU seconds of a command as a process of its own, and what it prints; ``check``: it must end with 0."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, check=check, capture_output=True, text=True, env={**os.environ, **environment})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout
