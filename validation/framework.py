"""Claims held against runs.

A suite is a folder of ``archsim.validation`` with a ``suite.py`` whose ``rows()`` answers every claim, and the
claims beside it: ``claims.yaml`` (published figures) or ``cases.csv`` (another simulator's or RTL's answers).

Roles: ``exact`` (another simulator's, RTL's or a formula's answer: tolerance 0), ``calibration`` (a parameter
was set by it), ``validation`` (predicted). A claim that is missed keeps its row and says why in ``cause``.
"""

from __future__ import annotations

import contextlib
import csv
import importlib
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Literal

from archsim.errors import InputError, nearest
from archsim.files import write_text
from archsim.spec import Spec

Role = Literal["exact", "calibration", "validation"]
Row = dict[str, Any]
FOLDER = Path(__file__).resolve().parent


class Claim(Spec):
    """One published figure and how near a run must come."""

    case: str
    """which set-up"""
    metric: str
    """which figure of it"""
    unit: str
    """unit of the figure"""
    published: float
    """the figure"""
    tolerance: float
    """largest relative error that passes"""
    role: Role
    """exact, calibration or validation"""
    source: str
    """figure or table"""
    confidence: Literal["high", "medium", "low"] = "high"
    """how far to trust the transcription"""
    cause: str = ""
    """why the model misses it, when it is known to"""


class Claims(Spec):
    """A ``claims.yaml``."""

    about: str
    """what the suite holds against what"""
    claims: tuple[Claim, ...]


def row(suite: str, claim: Claim, simulated: float) -> Row:
    """The answer to a claim; the error is relative to the published figure."""
    error = (simulated - claim.published) / abs(claim.published) if claim.published else float(simulated)
    return {
        "suite": suite,
        "case": claim.case,
        "metric": claim.metric,
        "unit": claim.unit,
        "published": claim.published,
        "simulated": simulated,
        "error": error,
        "tolerance": claim.tolerance,
        "role": claim.role,
        "passed": abs(error) <= claim.tolerance,
        "source": claim.source,
        "cause": claim.cause,
    }


def answered(suite: str, simulated: Mapping[tuple[str, str], float]) -> list[Row]:
    """Rows of a suite's ``claims.yaml``, given (case, metric) to value.

    Raises
    ------
    InputError: a claim has no answer.
    """
    from archsim.config import load_spec

    claims = load_spec(FOLDER / suite / "claims.yaml", Claims).claims
    missing = [f"{c.case}, {c.metric}" for c in claims if (c.case, c.metric) not in simulated]
    if missing:
        raise InputError(f"suite '{suite}' has no answer to: {'; '.join(missing)}")
    return [row(suite, claim, float(simulated[claim.case, claim.metric])) for claim in claims]


def cases(suite: str, file: str = "cases.csv") -> list[dict[str, str]]:
    """The rows of a suite's cases."""
    with (FOLDER / suite / file).open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def names() -> list[str]:
    """All suites."""
    return sorted(path.parent.name for path in FOLDER.glob("*/suite.py"))


def run_suites(
    wanted: Sequence[str] = (), progress: Callable[[int, int, str], None] | None = None, workers: int = 1
) -> list[Row]:
    """Rows of the named suites, or of all, in their order whatever the number of workers.

    Parameters
    ----------
    progress: called with suites done, suites in all, and the name of the next. workers: processes.

    Raises
    ------
    InputError: no suite has this name.
    """
    known = names()
    for name in wanted:
        if name not in known:
            raise InputError(f"no suite is called '{name}': {nearest(name, known)}")
    rows: list[Row] = []
    chosen = list(wanted) or known
    with contextlib.ExitStack() as stack:
        answers: Iterator[list[Row]] = map(_answers, chosen)
        if workers > 1 < len(chosen):
            pool = ProcessPoolExecutor(min(workers, len(chosen)), multiprocessing.get_context("spawn"))
            answers = stack.enter_context(pool).map(_answers, chosen)
        for i, name in enumerate(chosen):
            if progress is not None:
                progress(i, len(chosen), name)
            rows += next(answers)
    return rows


def _answers(suite: str) -> list[Row]:
    found: list[Row] = importlib.import_module(f"archsim.validation.{suite}.suite").rows()
    return found


def write_pictures(suites: Sequence[str], folder: Path) -> list[Path]:
    """The pictures of the named suites, or of all, as ``SUITE.svg``; suites without one are passed over."""
    written = []
    for name in list(suites) or names():
        module = importlib.import_module(f"archsim.validation.{name}.suite")
        if hasattr(module, "picture"):
            written.append(folder / f"{name}.svg")
            write_text(written[-1], module.picture())
    return written


def to_digits(value: float, digits: int) -> float:
    """``value`` to the significant digits that a peer prints."""
    return float(f"{value:.{digits}g}")


def compared(suite: str, case: str, source: str, figures: Iterable[tuple[str, str, float, float]]) -> list[Row]:
    """Exact rows of one case from (metric, unit, published, simulated)."""
    return [
        row(
            suite,
            Claim(case=case, metric=metric, unit=unit, published=published, tolerance=0.0, role="exact", source=source),
            simulated,
        )
        for metric, unit, published, simulated in figures
    ]
