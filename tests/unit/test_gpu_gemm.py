"""GEMM kernels of GPUs: one shape and many, alone and in a run, and where the rules bite."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from archsim.cli import main
from archsim.components.compute.gpu_gemm import GpuChip, GpuKernelsSpec, gemm
from archsim.config import load_spec
from archsim.errors import InputError
from archsim.kernels import answer
from archsim.machine import ChipSpec
from archsim.runs import run

KERNELS = load_spec("nvidia_gemm", GpuKernelsSpec, category="kernels")
CHIP = GpuChip(108, 1_410_000_000, 1024, 2.039e12, 40 * 2**20, "ampere", 400.0)


def seconds(m, k, n, chip=CHIP, **more):
    return float(gemm(chip, KERNELS, m, k, n, **more).seconds[0])


def test_many_shapes_are_those_one_by_one():
    rng = np.random.default_rng(5)
    m, k, n = rng.integers(1, 9000, (3, 200))
    together = gemm(CHIP, KERNELS, m, k, n)
    for i in range(0, 200, 7):
        alone = gemm(CHIP, KERNELS, int(m[i]), int(k[i]), int(n[i]))
        assert together.seconds[i] == alone.seconds[0]
        assert (together.tile[i], together.split[i]) == (alone.tile[0], alone.split[0])


def test_no_kernel_beats_the_peak_or_the_memory():
    rng = np.random.default_rng(6)
    m, k, n = rng.integers(1, 20_000, (3, 500)).astype(float)
    best = gemm(CHIP, KERNELS, m, k, n)
    assert (2 * m * k * n / best.seconds <= 2 * 108 * 1024 * 1.41e9).all()
    assert ((m * k + k * n + m * n) * 2 / best.seconds <= 2.039e12).all()
    assert (best.memory_bytes >= (m * k + k * n + m * n) * 2).all()


def test_a_deep_thin_product_is_split_and_a_large_one_is_not():
    assert gemm(CHIP, KERNELS, 64, 32768, 128).split[0] > 1
    assert gemm(CHIP, KERNELS, 8192, 8192, 8192).split[0] == 1


def test_an_operand_in_the_cache_loads_no_memory():
    assert seconds(64, 8192, 8192, left_cached=True) <= seconds(64, 8192, 8192)
    cached = gemm(CHIP, KERNELS, 64, 8192, 8192, left_cached=True, out_cached=True)
    assert cached.memory_bytes[0] == 2 * 8192 * 8192


def test_a_lower_power_cap_slows_large_products_only():
    weak = GpuChip(108, 1_410_000_000, 1024, 2.039e12, 40 * 2**20, "ampere", 100.0)
    assert seconds(8192, 8192, 8192, weak) > seconds(8192, 8192, 8192)
    assert seconds(64, 64, 64, weak) == seconds(64, 64, 64)


def test_parameters_for_another_architecture_are_refused():
    with pytest.raises(InputError, match="no parameters for the architecture 'amper': did you mean 'ampere'"):
        gemm(GpuChip(1, 1, 1, 1.0, 1, "amper", None), KERNELS, 1, 1, 1)


def test_a_run_takes_the_cycles_of_the_kernel_asked_alone():
    chip = load_spec("a100_sxm", ChipSpec, category="chips")
    alone = answer(chip, [{"m": 4096, "n": 4096, "k": 4096, "dtype": "bf16"}])[0]
    product = {"name": "g", "m": 4096, "k": 4096, "n": 4096}
    result = run({"name": "g", "chip": "a100_sxm", "workload": {"kind": "gemm", "gemms": [product]}})
    home = result.placement.home
    assert all(path == "chip.hbm" for path in home.values())  # the same operands come from memory
    assert result.op_rows[0]["cycles"] == math.ceil(alone["latency_us"] * 1e-6 * chip.clock)


def test_the_command_answers_one_kernel_and_a_file(tmp_path, capsys):
    assert (
        main(["kernel", "--chip", "h100_sxm", "--dtype", "bfloat16", "-m", "512", "-n", "512", "-k", "512", "--json"])
        == 0
    )
    one = json.loads(capsys.readouterr().out)
    cases = tmp_path / "cases.csv"
    cases.write_text("device,dtype,m,n,k,latency_us,op\nh100_sxm,bfloat16,512,512,512,7.5,linear\n")
    assert main(["kernel", "--cases", str(cases), "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)
    assert row["latency_us"] == one["latency_us"]
    assert (row["given_latency_us"], row["op"]) == ("7.5", "linear")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--chip", "h100_sxm", "--dtype", "fp4", "-m", "1", "-n", "1", "-k", "1"], "does not multiply fp4"),
        (["--chip", "h100_sxm", "--dtype", "bf16", "-m", "0", "-n", "1", "-k", "1"], "-m: expected a whole number"),
        (["--chip", "tpu_v4i", "--dtype", "bf16", "-m", "1", "-n", "1", "-k", "1"], "no GPU engine with 'kernels'"),
        (["--dtype", "bf16", "-m", "1", "-n", "1", "-k", "1"], "--chip: is missing"),
        (
            ["--chip", "h100_sxm", "--op", "gem", "--dtype", "bf16", "-m", "1", "-n", "1", "-k", "1"],
            "did you mean 'gemm'",
        ),
        (["--chip", "h100_sxm", "--cases", "nowhere.csv"], "cannot read it"),
    ],
)
def test_bad_kernels_are_refused(arguments, said, capsys):
    assert main(["kernel", *arguments]) == 2
    assert said in capsys.readouterr().err
