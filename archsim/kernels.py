"""GEMM kernels of a GPU asked alone, thousands of shapes at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from archsim.components.compute.gpu_gemm import TILES, GpuChip, gemm
from archsim.components.compute.gpu_sm import GpuSm
from archsim.errors import InputError, nearest
from archsim.machine import ChipSpec, Machine, SystemSpec
from archsim.model.memory import Memory
from archsim.workloads.op import DType


def answer(chip: ChipSpec, cases: Sequence[Mapping[str, Any]], eager: bool = False) -> list[dict[str, Any]]:
    """The cases with latency_us, tflops, bound, tile and split as further columns.

    Parameters
    ----------
    cases: mappings with m, n, k (ints) and dtype; other keys pass through.
    eager: add the host's time around a kernel that a framework launches by itself.

    Raises
    ------
    InputError: the chip is no GPU with kernel parameters, or does not multiply a format.
    """
    machine = Machine(SystemSpec(name=chip.name, chip=chip))
    engine = next((e for e in machine.engines.values() if isinstance(e, GpuSm)), None)
    if engine is None or engine.spec.kernels is None:
        raise InputError(f"chip '{chip.name}' has no GPU engine with 'kernels': its kernels cannot be asked alone")
    spec, kernels = engine.spec, engine.spec.kernels
    memory: Memory[Any] = machine.main_memory()
    answers: list[dict[str, Any]] = [dict(case) for case in cases]
    for name in sorted({str(case["dtype"]) for case in cases}):
        dtype = next((d for d in engine.dtypes() if d.value == name), None)
        if dtype is None:
            known = [d.value for d in engine.dtypes()]
            raise InputError(f"chip '{chip.name}' does not multiply {name}: {nearest(name, known)}")
        mine = [i for i, case in enumerate(cases) if str(case["dtype"]) == name]
        m, n, k = (np.array([int(cases[i][key]) for i in mine], dtype=np.float64) for key in ("m", "n", "k"))
        seen = GpuChip(
            spec.count,
            engine.clock_hz,
            spec.macs_per_cycle[dtype],
            memory.peak_bytes_per_s,
            machine.scratchpad.capacity_bytes,
            spec.architecture,
            spec.power_cap,
        )
        out = DType.BF16.bits if dtype.bits <= 8 else dtype.bits
        best = gemm(seen, kernels, m, k, n, in_bytes=dtype.bits / 8, out_bytes=out / 8)
        seconds = best.seconds + (kernels.host_launch * 1e-12 if eager else 0.0)
        streamed = best.memory_bytes / (memory.peak_bytes_per_s * kernels.memory_efficiency)
        for j, i in enumerate(mine):
            rows, columns = TILES[int(best.tile[j])]
            answers[i] |= {
                "latency_us": float(seconds[j]) * 1e6,
                "tflops": 2e-12 * m[j] * n[j] * k[j] / float(seconds[j]),
                "bound": "memory" if streamed[j] > 0.5 * seconds[j] else "compute",
                "tile": f"{rows}x{columns}",
                "split_k": int(best.split[j]),
            }
    return answers
