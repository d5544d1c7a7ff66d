"""Commands as a user types them: CPU time and memory of the whole process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from statistics import median


def _usage(arguments: list[str], runs: int = 5) -> tuple[float, float]:
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


def measure() -> list[dict[str, str]]:
    """Rows of the table."""
    help_s, _ = _usage(["--help"])
    run_s, run_mb = _usage(["run", "llama_3_8b_on_tpu_v4i", "--json"])
    pim_s, _ = _usage(["run", "gpt3_xl_on_pim_gpt", "--json"])
    how = "whole process, median of 5"
    return [
        {"what": "archsim --help", "measured": f"{help_s:.3f} s", "aim": "< 0.25 s", "how": how},
        {"what": "archsim run, Llama-3-8B on TPU v4i", "measured": f"{run_s:.2f} s", "aim": "", "how": how},
        {"what": "its peak memory", "measured": f"{run_mb:.0f} MB", "aim": "< 400 MB", "how": how},
        {"what": "GPT3-XL, 1,024 tokens on PIM-GPT", "measured": f"{pim_s:.2f} s", "aim": "< 2 s", "how": how},
    ]
