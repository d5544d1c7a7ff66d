"""Fits the parameters of kernel models to measured kernels, and says how far to trust them.

A calibration is a list of stages; a stage fits at most a dozen named parameters, shared by all chips, on stated rows.
The loss is the mean of |log(predicted / measured)|, smoothed near zero; the fit is Levenberg-Marquardt on logarithms
of the parameters with that loss's weights, from stated starting values, so that it answers the same every time.
Intervals come from the curvature and the scatter of the residuals (a sandwich estimate). Each stage is fitted again
without each chip in turn; the errors on the chip left out are reported, and their spread is the band that predictions
carry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from archsim.components.compute.gpu_kernels import GpuKernelsSpec, checked, merged
from archsim.config import CONFIGS, File, load_spec
from archsim.errors import InputError, Problem, nearest, shortened
from archsim.files import read_rows
from archsim.kernels import OPS, WORDS, Gpu, arrays, gpu_of, kinds, times
from archsim.machine import ChipSpec
from archsim.spec import Spec

Floats = npt.NDArray[np.float64]

MOST_PARAMETERS = 12
_SMOOTH = 0.05  # residuals below this count as squares
_DIFFERENCE = 5e-3  # of a logarithm
_ROUNDS = 60
_SETTLED = 2e-5  # improvement of the loss below which a round counts for nothing
_NORMAL_95 = 1.96
_FEW = 10  # rows for each parameter, below which a fit lies closer to its rows than to others
_BAND = (4.5, 95.5)  # percentiles of rows that a fit has seen hold nine of ten that it has not


class StageSpec(Spec):
    """Parameters that are fitted together."""

    name: str
    """its own"""
    kernel: str = ""
    """whose predictions carry this stage's band, such as ``gemm fp8``; the stage's name when empty"""
    op: str
    """gemm, attention, moe or elementwise"""
    target: Literal["latency_us", "power_w"] = "latency_us"
    """column that is fitted"""
    where: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """rows that are used: column to the values allowed"""
    within: str = ""
    """part of the kernels' config that the parameters are of, such as ``libraries.vllm_0_22.on.tcgen05``; a release's
    changes, which answer for the chips of the rows"""
    parameters: Annotated[dict[str, tuple[float, float, float]], Field(min_length=1, max_length=MOST_PARAMETERS)]
    """path in the kernels' config to starting value, least and most"""

    def path(self, parameter: str) -> str:
        """Where a parameter stands in the kernels' config."""
        return f"{self.within}.{parameter}" if self.within else parameter

    @model_validator(mode="after")
    def _in_range(self) -> StageSpec:
        for path, (start, least, most) in self.parameters.items():
            if not 0 < least <= start <= most:
                raise ValueError(
                    f"'{path}' starts between its least and most, above zero: not {start}, {least}, {most}"
                )
        return self


class CalibrationSpec(Spec):
    """What is fitted on what."""

    name: str
    """of the calibration"""
    source: str
    """of the rows"""
    kernels: Annotated[str, File("kernels")]
    """name or file of the kernels' config whose parameters are fitted"""
    rows: dict[str, str]
    """op (``gemm``; ``gemm power`` of stages that fit power) to the CSV file of its rows, beside this file"""
    stages: tuple[StageSpec, ...]
    """in order; a stage sees what the ones before it found, and starting values of those after it"""


@dataclass(frozen=True)
class Errors:
    """Relative errors of predictions: how many, mean absolute, median absolute, mean signed."""

    rows: int
    mean_absolute: float
    median_absolute: float
    mean_signed: float

    @staticmethod
    def of(predicted: Floats, measured: Floats) -> Errors:
        """Of predicted against measured times."""
        error = predicted / measured - 1.0
        size = np.abs(error)
        return Errors(error.size, float(size.mean()), float(np.median(size)), float(error.mean()))


@dataclass(frozen=True)
class StageResult:
    """What a stage found.

    Attributes
    ----------
    values: path to value. intervals: path to the 95% interval. errors: by chip, on the rows fitted.
    left_out: by chip, of a fit that did not see it; empty with one chip. band: 5th and 95th percentile of measured
    over predicted time of rows left out (of the rows fitted, with one chip).
    """

    name: str
    values: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    errors: dict[str, Errors]
    left_out: dict[str, Errors]
    band: tuple[float, float]


@dataclass(frozen=True)
class _Group:
    """Rows of one chip and kind."""

    chip: str
    kind: tuple[str, ...]
    sizes: dict[str, Floats]
    words: dict[str, list[str]]
    measured: Floats


def calibrate(
    spec: CalibrationSpec, folder: Path, wanted: Sequence[str] = (), progress: Callable[[str], None] | None = None
) -> tuple[GpuKernelsSpec, list[StageResult]]:
    """The kernels with calibrated parameters, intervals and bands; and what each stage found.

    Parameters
    ----------
    folder: where the rows are. wanted: names of stages; none: all.

    Raises
    ------
    InputError: a stage, a parameter, a column or a file is not there; a stage has fewer rows than parameters.
    """
    names = [stage.name for stage in spec.stages]
    for name in wanted:
        if name not in names:
            raise InputError(f"'{spec.name}' has no stage '{name}': {nearest(name, names)}")
    data = load_spec(spec.kernels, GpuKernelsSpec, category="kernels").model_dump(mode="json", exclude_none=True)
    chips: dict[str, Gpu] = {}
    results = []
    for stage in () if wanted else spec.stages:  # what comes out does not hang on what was there before
        for parameter, (start, _, _) in stage.parameters.items():
            _get(merged(data, _get(data, stage.within)) if stage.within else data, parameter)
            _put(data, stage.path(parameter), start)
    for stage in spec.stages:
        if wanted and stage.name not in wanted:
            continue
        if progress is not None:
            progress(stage.name)
        rows = f"{stage.op} power" if stage.target == "power_w" else stage.op
        if rows not in spec.rows:
            raise InputError(f"stage '{stage.name}': there are no rows of '{rows}': {nearest(rows, spec.rows)}")
        groups = _groups(stage, folder / spec.rows[rows], chips)
        result = _fit_stage(stage, data, groups, chips)
        for path, value in result.values.items():
            _put(data, path, value)
        data.setdefault("intervals", {}).update({path: list(pair) for path, pair in result.intervals.items()})
        _put(data, stage.path(f"bands.{stage.kernel or stage.name}"), list(result.band))
        results.append(result)
    return checked(data), results


def fit(residuals: Callable[[Floats], Floats], start: Floats, least: Floats, most: Floats) -> tuple[Floats, Floats]:
    """Parameters that make the residuals small, and half-widths of their logarithms' 95% intervals.

    Parameters
    ----------
    residuals: of parameters (> 0), log(predicted / measured) of each row. start, least, most: [parameters].

    Raises
    ------
    InputError: there are fewer rows than parameters.
    """
    low, high = np.log(least), np.log(most)
    at = np.clip(np.log(start), low, high)
    errors = residuals(np.exp(at))
    if errors.size < at.size:
        raise InputError(f"{errors.size} rows cannot set {at.size} parameters")
    loss, damping, idle = _loss(errors), 1e-2, 0
    for _ in range(_ROUNDS):
        slopes = _slopes(residuals, at, errors, high)
        weight = 1.0 / np.sqrt(errors**2 + _SMOOTH**2)
        gradient = slopes.T @ (weight * errors)
        curvature = slopes.T @ (slopes * weight[:, None])
        # A parameter at a bound that wants to leave it stays there.
        free = ~(((at <= low) & (gradient > 0)) | ((at >= high) & (gradient < 0)))
        better = False
        for _ in range(8):
            inner = curvature[np.ix_(free, free)]
            ridge = damping * np.diag(np.diag(inner) + 1e-6 * np.trace(inner) + 1e-12)
            step = np.zeros_like(at)
            step[free] = np.linalg.solve(inner + ridge, -gradient[free])
            there = np.clip(at + np.clip(step, -0.5, 0.5), low, high)
            found = residuals(np.exp(there))
            if _loss(found) < loss:
                better = True
                break
            damping *= 4
        if not better:
            break
        idle = idle + 1 if loss - _loss(found) < _SETTLED else 0
        at, errors, loss, damping = there, found, _loss(found), max(damping / 6, 1e-6)
        if idle >= 2:
            break
    slopes = _slopes(residuals, at, errors, high)
    weight = 1.0 / np.sqrt(errors**2 + _SMOOTH**2)
    inverse = np.linalg.pinv(slopes.T @ (slopes * weight[:, None]))
    scatter = slopes.T @ (slopes * (weight * errors)[:, None] ** 2)
    variance = np.clip(np.diag(inverse @ scatter @ inverse), 0.0, None)
    return np.exp(at), _NORMAL_95 * np.sqrt(variance)


def _loss(errors: Floats) -> float:
    return float(np.mean(np.sqrt(errors**2 + _SMOOTH**2)))


def _slopes(residuals: Callable[[Floats], Floats], at: Floats, errors: Floats, high: Floats) -> Floats:
    slopes = np.empty((errors.size, at.size))
    for j in range(at.size):
        step = _DIFFERENCE if at[j] + _DIFFERENCE <= high[j] else -_DIFFERENCE
        moved = at.copy()
        moved[j] += step
        slopes[:, j] = (residuals(np.exp(moved)) - errors) / step
    return slopes


def _fit_stage(
    stage: StageSpec, data: dict[str, Any], groups: Sequence[_Group], chips: Mapping[str, Gpu]
) -> StageResult:
    paths = [stage.path(parameter) for parameter in stage.parameters]
    start, least, most = (np.array([value[i] for value in stage.parameters.values()]) for i in range(3))
    whole = merged(data, _get(data, stage.within)) if stage.within else data
    for parameter, bounds in stage.parameters.items():
        usual = _get(whole, parameter)  # a wrong path is found here
        for bound in bounds:  # and a value that the kernels cannot have
            _put(data, stage.path(parameter), bound)
            tried = checked(data)
            for name in {group.chip for group in groups}:
                tried.on(chips[name].chip.instruction, chips[name].chip.process)
        _put(data, stage.path(parameter), usual)

    def predicted(values: Floats, some: Sequence[_Group]) -> list[Floats]:
        for path, value in zip(paths, values, strict=True):
            _put(data, path, float(value))
        kernels = GpuKernelsSpec.model_validate(data)
        timed = [
            times(replace(chips[g.chip], kernels=kernels), stage.op, g.kind, g.sizes, g.words, ticks=False)
            for g in some
        ]
        return [t.seconds if stage.target == "latency_us" else t.facts["power_w"] for t in timed]

    def fitted(some: Sequence[_Group], begin: Floats) -> tuple[Floats, Floats]:
        measured = np.log(np.concatenate([g.measured for g in some]))
        return fit(lambda values: np.log(np.concatenate(predicted(values, some))) - measured, begin, least, most)

    try:
        values, half = fitted(groups, start)
    except InputError as error:
        raise InputError(f"stage '{stage.name}': {error}") from None
    errors, left_out, ratios = {}, {}, []
    names = list(dict.fromkeys(g.chip for g in groups))
    for name in names:
        mine = [g for g in groups if g.chip == name]
        measured = np.concatenate([g.measured for g in mine])
        seen = np.concatenate(predicted(values, mine))
        errors[name] = Errors.of(seen, measured)
        others = [g for g in groups if g.chip != name]
        if sum(g.measured.size for g in others) >= len(paths):
            blind = np.concatenate(predicted(fitted(others, values)[0], mine))
            left_out[name] = Errors.of(blind, measured)
            ratios.append(measured / blind)
        else:
            ratios.append(measured / seen)
    rows = sum(g.measured.size for g in groups)
    wider = 1.0 + 4.0 * len(paths) / rows if rows < _FEW * len(paths) else 1.0
    low, high = np.percentile(np.concatenate(ratios), _BAND) ** wider
    rounded = {path: _digits(value) for path, value in zip(paths, values, strict=True)}
    intervals = {
        path: (_digits(value * np.exp(-min(h, 5.0))), _digits(value * np.exp(min(h, 5.0))))
        for path, value, h in zip(paths, values, half, strict=True)
    }
    return StageResult(stage.name, rounded, intervals, errors, left_out, (_digits(low), _digits(high)))


def chips_of(spec: CalibrationSpec, stage: StageSpec, folder: Path) -> list[str]:
    """Chips whose rows, in a folder, set a stage."""
    rows = (row for _, row in read_rows(folder / spec.rows[stage.op]))
    return list(dict.fromkeys(row["device"] for row in rows if all(row[c] in some for c, some in stage.where.items())))


def _groups(stage: StageSpec, file: Path, chips: dict[str, Gpu]) -> list[_Group]:
    placed = read_rows(file)
    known = placed[0][1].keys()
    for column in (*stage.where, "device", stage.target, *OPS[stage.op]):
        if column not in known:
            raise InputError(f"stage '{stage.name}': {file.name} has no column '{column}': {nearest(column, known)}")
    placed = [(line, row) for line, row in placed if all(row[c] in values for c, values in stage.where.items())]
    numbers = [name for name in (stage.target, *OPS[stage.op]) if name not in WORDS]
    for line, row in placed:
        for name in numbers:
            if not _positive(row[name]):
                message = f"'{shortened(row[name])}' is no number above zero"
                raise InputError([Problem(message, str(file), line, 1, name)])
    rows = [row for _, row in placed]
    groups = []
    for device in dict.fromkeys(row["device"] for row in rows):
        if device not in chips:
            chips[device] = gpu_of(load_spec(device, ChipSpec, category="chips"))
        mine = [row for row in rows if row["device"] == device]
        for kind, which in kinds(stage.op, mine).items():
            some = [mine[i] for i in which]
            unit = 1e-6 if stage.target == "latency_us" else 1.0
            measured = np.array([float(row[stage.target]) for row in some]) * unit
            groups.append(_Group(device, kind, *arrays(stage.op, some), measured))
    if sum(g.measured.size for g in groups) < len(stage.parameters):
        count = sum(g.measured.size for g in groups)
        raise InputError(f"stage '{stage.name}': {count} rows cannot set {len(stage.parameters)} parameters")
    return groups


def _positive(text: str) -> bool:
    try:
        return 0 < float(text) < 1e18
    except ValueError:
        return False


def _get(data: Mapping[str, Any], path: str) -> Any:
    node: Any = data
    for key in path.split("."):
        if not isinstance(node, Mapping) or key not in node:
            raise InputError(f"the kernels have no parameter '{path}': {nearest(key, list(node))}")
        node = node[key]
    return node


def _put(data: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    node: Any = data
    for key in parents:
        node = node.setdefault(key, {})
    node[last] = value


def _digits(value: float) -> float:
    return float(f"{value:.4g}")


def shipped(name: str) -> tuple[CalibrationSpec, Path]:
    """A calibration that ships, or one in a file, and its folder."""
    file = Path(name)
    if file.suffix in (".yaml", ".yml"):
        return load_spec(file, CalibrationSpec), file.parent
    return load_spec(name, CalibrationSpec, category="calibrations"), CONFIGS / "calibrations"
