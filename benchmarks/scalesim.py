"""SCALE-Sim 3.0.0 on the same layers in the same run: equal cycles, and how much faster."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from archsim.components.compute.gemm_cases import answer
from benchmarks.row import Peer, Row, beside

_HOME = Path("build/peers/scalesim")
_ROWS = _COLUMNS = 128

# ResNet-50 (He et al. 2016), one layer of each stage, as products; GPT-2 small (1,024 tokens).
_LAYERS = {
    "resnet50_conv1": (12544, 147, 64),
    "resnet50_conv2_3x3": (3136, 576, 64),
    "resnet50_conv3_3x3": (784, 1152, 128),
    "resnet50_conv4_3x3": (196, 2304, 256),
    "resnet50_conv5_3x3": (49, 4608, 512),
    "resnet50_conv5_1x1": (49, 512, 2048),
    "resnet50_fc": (1, 2048, 1000),
    "gpt2_qkv": (1024, 768, 2304),
    "gpt2_proj": (1024, 768, 768),
    "gpt2_fc": (1024, 768, 3072),
    "gpt2_fc2": (1024, 3072, 768),
}
_CONFIG = """[general]
run_name = bench
[architecture_presets]
ArrayHeight : 128
ArrayWidth : 128
IfmapSramSzkB : 6144
FilterSramSzkB : 6144
OfmapSramSzkB : 2048
IfmapOffset : 0
FilterOffset : 10000000
OfmapOffset : 20000000
Dataflow : ws
Bandwidth : 10
ReadRequestBuffer : 32
WriteRequestBuffer : 32
[layout]
IfmapCustomLayout : False
FilterCustomLayout : False
IfmapSRAMBankBandwidth : 10
IfmapSRAMBankNum : 10
IfmapSRAMBankPort : 2
FilterSRAMBankBandwidth : 10
FilterSRAMBankNum : 10
FilterSRAMBankPort : 2
[sparsity]
SparsitySupport : false
SparseRep : ellpack_block
OptimizedMapping : false
BlockSize : 8
RandomNumberGeneratorSeed : 40
[run_presets]
InterfaceBandwidth : CALC
UseRamulatorTrace : False
"""


def _python() -> Path | None:
    """The peer's interpreter, installed on first use; None when it cannot be had."""
    python = _HOME / "venv/bin/python"
    if not python.exists():
        _HOME.mkdir(parents=True, exist_ok=True)
        try:
            subprocess.run([sys.executable, "-m", "venv", str(_HOME / "venv")], check=True)
            subprocess.run(
                [str(python), "-m", "pip", "install", "--quiet", "scalesim==3.0.0", "numpy<2", "pandas<3"], check=True
            )
        except subprocess.CalledProcessError:
            return None
    return python.absolute()


def _peer(python: Path) -> tuple[float, dict[str, int]]:
    """CPU seconds of the peer on all layers, and its total cycles of each."""
    (_HOME / "bench.cfg").write_text(_CONFIG)
    layers = "".join(f"{name},{m},{n},{k},\n" for name, (m, k, n) in _LAYERS.items())
    (_HOME / "layers.csv").write_text("Layer, M, N, K,\n" + layers)
    factors = ",".join(["1"] * 20)
    (_HOME / "layout.csv").write_text(
        "Layer," + "factor," * 20 + "\n" + "".join(f"{name},{factors},\n" for name in _LAYERS)
    )
    process = subprocess.Popen(
        [
            str(python),
            "-m",
            "scalesim.scale",
            "-c",
            "bench.cfg",
            "-t",
            "layers.csv",
            "-l",
            "layout.csv",
            "-i",
            "gemm",
            "-p",
            "out",
        ],
        cwd=_HOME,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    with (_HOME / "out/bench/COMPUTE_REPORT.csv").open() as report:
        rows = list(csv.DictReader(report, skipinitialspace=True))
    return usage.ru_utime + usage.ru_stime, {
        name: int(float(row["Total Cycles"])) for name, row in zip(_LAYERS, rows, strict=True)
    }


def _whole(cases: list[dict[str, Any]]) -> float:
    """CPU seconds of archsim as a command on the same layers, start-up included."""
    file = _HOME / "cases.csv"
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(cases[0]))
        writer.writeheader()
        writer.writerows(cases)
    command = [str(Path(sys.executable).with_name("archsim")), "gemm", "--cases", str(file), "--accounting", "scalesim"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime


def measure() -> Iterator[Row]:
    """Rows of the table."""
    what = f"{len(_LAYERS)} layers of ResNet-50 and GPT-2, 128x128 WS"
    python = _python()
    cases = [
        {"M": m, "K": k, "N": n, "rows": _ROWS, "cols": _COLUMNS, "dataflow": "ws"} for m, k, n in _LAYERS.values()
    ]
    answer(cases, accounting="scalesim")
    start = time.process_time()
    repeats = 100
    for _ in range(repeats):
        ours = answer(cases, accounting="scalesim")
    rate = repeats / (time.process_time() - start)
    if python is None:
        peer = Peer("SCALE-Sim 3.0.0", None, "it could not be installed from the package index")
        yield beside(what, rate, "times a second", peer, 1000)
        return
    peer_s, peer_cycles = _peer(python)
    equal = sum(row["total_cycles"] == peer_cycles[name] for name, row in zip(_LAYERS, ours, strict=True))
    how = f"CPU, same run, {peer_s:.1f} s as a process; cycles equal on {equal} of {len(_LAYERS)} layers"
    yield beside(what, rate, "times a second", Peer("SCALE-Sim 3.0.0", 1 / peer_s, how), 1000, "archsim warm")
    whole_s = _whole(cases)
    how = "CPU, start-up and CSV included"
    yield Row("the same, both as whole processes", f"{whole_s:.2f} s, {peer_s / whole_s:,.0f}x", "", how)
