"""Commands as a user types them: CPU time and memory of the whole process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from benchmarks.row import Row, below


def usage(arguments: list[str], runs: int = 5) -> tuple[float, float]:
    """Median CPU seconds and largest MB resident of a command."""
    seconds, megabytes = [], []
    command = [str(Path(sys.executable).with_name("archsim")), *arguments]
    for _ in range(runs):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
        seconds.append(usage.ru_utime + usage.ru_stime)
        megabytes.append(usage.ru_maxrss / 1024)
    return median(seconds), max(megabytes)


def measure() -> Iterator[Row]:
    """Rows of the table."""
    how = "whole process, median of 5"
    yield below("archsim --help", usage(["--help"])[0], 0.25, how)
    seconds, megabytes = usage(["run", "llama_3_8b_on_tpu_v4i", "--json"])
    yield Row("archsim run, Llama-3-8B on TPU v4i", f"{seconds:.2f} s", "", how)
    yield below("its peak memory", megabytes, 400, how, "MB", 0)
    yield below("GPT3-XL, 1,024 tokens on PIM-GPT", usage(["run", "gpt3_xl_on_pim_gpt", "--json"])[0], 2, how)
