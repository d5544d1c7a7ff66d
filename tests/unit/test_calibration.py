"""The calibration tool: finds what made the rows, says how sure it is, and refuses too few rows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from archsim.calibration import CalibrationSpec, calibrate, fit, shipped
from archsim.cli import main
from archsim.components.compute.gpu_kernels import GpuKernelsSpec
from archsim.config import CONFIGS, load_spec
from archsim.errors import InputError
from archsim.kernels import answer
from archsim.machine import ChipSpec


def test_a_fit_finds_the_parameters_and_its_interval_holds_them():
    rng = np.random.default_rng(3)
    size = rng.uniform(1, 100, 400)
    true = np.array([2.0, 0.3])
    measured = (true[0] + true[1] * size) * np.exp(rng.normal(0, 0.05, 400))

    def residuals(p):
        return np.log((p[0] + p[1] * size) / measured)

    found, half = fit(residuals, np.array([1.0, 1.0]), np.array([0.01, 0.01]), np.array([100.0, 100.0]))
    assert (np.abs(np.log(found / true)) <= half).all()
    assert (half < 0.1).all()


def test_outliers_do_not_pull_a_fit():
    measured = np.array([2.0] * 50 + [200.0] * 5)
    found, _ = fit(lambda p: np.log(p[0] / measured), np.array([1.0]), np.array([0.01]), np.array([1e3]))
    assert found[0] == pytest.approx(2.0, rel=0.02)


def test_a_parameter_stays_within_its_bounds():
    found, _ = fit(lambda p: np.log(p[0] / np.full(9, 50.0)), np.array([1.0]), np.array([0.1]), np.array([10.0]))
    assert found[0] == pytest.approx(10.0)


def test_a_calibration_on_predictions_finds_the_parameters_that_made_them(tmp_path):
    chip = load_spec("a40", ChipSpec, category="chips")
    rng = np.random.default_rng(4)
    shapes = [{"dtype": "bf16", "m": m, "n": n, "k": k} for m, n, k in rng.integers(64, 8192, (80, 3)).tolist()]
    lines = [f"a40,bf16,{a['m']},{a['n']},{a['k']},{a['latency_us']}" for a in answer(chip, "gemm", shapes)]
    (tmp_path / "rows.csv").write_text("device,dtype,m,n,k,latency_us\n" + "\n".join(lines) + "\n")
    kernels = load_spec("nvidia", GpuKernelsSpec, category="kernels").gemm
    stage = {
        "name": "gemm",
        "op": "gemm",
        "parameters": {"gemm.memory_efficiency": [0.6, 0.3, 1.0], "gemm.launch_us": [4.0, 0.1, 9.0]},
    }
    spec = {"name": "x", "source": "made", "kernels": "nvidia", "rows": {"gemm": "rows.csv"}, "stages": [stage]}
    _, [result] = calibrate(CalibrationSpec.model_validate(spec), tmp_path)
    assert result.values["gemm.memory_efficiency"] == pytest.approx(kernels.memory_efficiency, rel=1e-3)
    assert result.values["gemm.launch_us"] == pytest.approx(kernels.launch_us, rel=1e-3)
    assert result.errors["a40"].mean_absolute < 1e-3


def come_from(name, wanted=()):
    """Whether stages of a shipped calibration, fitted again, change nothing in the shipped kernels."""
    found, results = calibrate(*shipped(name), wanted)
    written = yaml.safe_load((CONFIGS / "kernels" / f"{name}.yaml").read_text(encoding="utf-8"))
    assert found == GpuKernelsSpec.model_validate(written)
    assert all(len(result.values) <= 12 for result in results)


def test_shipped_kernels_come_from_their_calibration():
    for name, some in {"amd": ("elementwise", "MI300X"), "nvidia": ("fp8, L40S", "attention flashinfer")}.items():
        stages = [stage.name for stage in shipped(name)[0].stages]
        come_from(name, [stage for stage in stages if any(part in stage for part in some)])


@pytest.mark.slow
def test_all_shipped_kernels_come_from_the_shipped_calibration():
    come_from("amd")
    come_from("nvidia")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"parameters": {"gemm.memory_eficiency": [0.5, 0.1, 1.0]}},
            "no parameter 'gemm.memory_eficiency': did you mean 'memory_efficiency'",
        ),
        ({"where": {"dtype": ["int9"]}}, "0 rows cannot set 1 parameters"),
        ({"where": {"colour": ["red"]}}, "has no column 'colour'"),
        ({"op": "atention"}, "there are no rows of 'atention'"),
    ],
)
def test_bad_stages_are_refused(change, said, tmp_path):
    (tmp_path / "rows.csv").write_text("device,dtype,m,n,k,latency_us\na100_sxm,bf16,64,64,64,5\n")
    stage = {"name": "gemm", "op": "gemm", "parameters": {"gemm.memory_efficiency": [0.6, 0.3, 1.0]}} | change
    spec = {"name": "x", "source": "made", "kernels": "nvidia", "rows": {"gemm": "rows.csv"}, "stages": [stage]}
    with pytest.raises(InputError, match=said):
        calibrate(CalibrationSpec.model_validate(spec), tmp_path)


def test_the_command_fits_one_stage_and_refuses_an_unknown_one(tmp_path, capsys):
    out = tmp_path / "mine.yaml"
    assert main(["calibrate", "nvidia", "--stage", "gemm int8", "--out", str(out), "--json"]) == 0
    [stage] = json.loads(capsys.readouterr().out)
    assert stage["errors"]["a100_sxm"]["mean_absolute"] < 0.15
    assert load_spec(out, GpuKernelsSpec).gemm is not None
    assert main(["calibrate", "nvidia", "--stage", "gem int8", "--out", str(out)]) == 2
    assert "did you mean 'gemm int8'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("gemm.memory_efficiency: [0.8, 0.0, 1.0]", "starts between its least and most, above zero"),
        ("gemm.memory_efficiency: [0.8, 0.9, 1.0]", "starts between its least and most"),
        ("gemm.memory_efficiency: [0.8, 0.3, 7.0]", "gemm.memory_efficiency: expected at most 1"),
        ("gemm.formats: [0.8, 0.3, 1.0]", "gemm.formats: expected a mapping"),
        ("gemm.memory_eficiency: [0.8, 0.3, 1.0]", "did you mean 'memory_efficiency'?"),
    ],
)
def test_parameters_that_cannot_be_fitted_are_told(
    change: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new"]) == 0
    text = (tmp_path / "my_calibration.yaml").read_text()
    (tmp_path / "my_calibration.yaml").write_text(text.replace("gemm.memory_efficiency: [0.8, 0.3, 1.0]", change))
    assert main(["calibrate", "my_calibration.yaml", "--out", "out.yaml"]) == 2
    assert said in capsys.readouterr().err
    (tmp_path / "my_calibration.yaml").write_text(text)
    rows = (tmp_path / "my_rows.csv").read_text()
    for wrong, where in (("many", ":2:1: m:"), ("-1", ":2:1: m:"), ("nan", ":2:1: m:")):
        (tmp_path / "my_rows.csv").write_text(rows.replace("1024,1024,1024", f"{wrong},1024,1024"))
        assert main(["calibrate", "my_calibration.yaml", "--out", "out.yaml"]) == 2
        assert where in capsys.readouterr().err
