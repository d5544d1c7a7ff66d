"""``archsim gemm``: cases from options and from CSV, answers to the terminal, to CSV and to JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from archsim.cli.cases import give, read_rows
from archsim.cli.output import output_file
from archsim.errors import InputError, Problem, nearest

_DATAFLOWS = ("ws", "os", "is")
_ACCOUNTINGS = ("hardware", "scalesim", "onnxim")
_NEEDED = ("M", "K", "N", "rows", "cols", "dataflow")
_MOST = 2**40
_ONNXIM_NAMES = {"core_height": "rows", "core_width": "cols"}


def gemm(
    options: Mapping[str, Any],
    accounting: str,
    file: Path | None,
    out: Path | None,
    picture: Path | None,
    as_json: bool,
) -> None:
    """Answer the case of the options, or each row of the file."""
    if accounting not in _ACCOUNTINGS:
        raise InputError([Problem(f"'{accounting}' is not known: {nearest(accounting, _ACCOUNTINGS)}", "--accounting")])
    filled = dict(options)
    if "array" in filled:
        match = re.fullmatch(r"(\d{1,6})x(\d{1,6})", str(filled.pop("array")))
        if match is None:
            raise InputError([Problem(f"'{options['array']}' is not written like 128x128", "--array")])
        filled["rows"], filled["cols"] = match.groups()
    if picture is not None and (file is not None or accounting != "hardware"):
        raise InputError([Problem("draws one product, counted as the hardware does", "--picture")])
    output_file(out)
    output_file(picture)
    if accounting == "onnxim":
        filled.setdefault("dataflow", "ws")
    cases = [_checked(filled, {}, "")] if file is None else _read(file, filled, accounting)

    from archsim.components.compute.gemm_cases import answer

    answers = answer(cases, accounting=accounting)
    if picture is not None:
        _draw(cases[0], picture)
    give(answers, file is not None, out, as_json)


def _draw(case: Mapping[str, Any], file: Path) -> None:
    """The busy PEs of a product, cycle by cycle."""
    from archsim.components.compute.systolic_array import active_pes
    from archsim.report.utilisation import picture

    sizes = [int(case[name]) for name in ("M", "K", "N", "rows", "cols")]
    active = active_pes(case["dataflow"], *sizes)
    m, k, n, rows, columns = sizes
    title = f"{m} x {k} by {k} x {n} on {rows} x {columns} PEs, {case['dataflow']}"
    file.write_text(picture(active, rows * columns, title), encoding="utf-8")


def _read(file: Path, options: Mapping[str, Any], accounting: str) -> list[dict[str, Any]]:
    """The rows of a CSV; options fill the columns that it lacks or leaves empty."""
    rows = read_rows(file)
    if accounting == "onnxim":
        named = {
            theirs: ours for theirs, ours in _ONNXIM_NAMES.items() if theirs in rows[0][1] and ours not in rows[0][1]
        }
        rows = [(line, row | {ours: row[theirs] for theirs, ours in named.items()}) for line, row in rows]
    header = list(rows[0][1])
    missing = [name for name in _NEEDED if name not in header and name not in options]
    if missing:
        raise InputError(
            [Problem(f"column '{name}' is missing: {nearest(name, header)}", str(file), 1, 1) for name in missing]
        )
    cases, problems = [], list[Problem]()
    for line, row in rows:
        try:
            cases.append(_checked(options, row, str(file), line))
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    return cases


def _checked(options: Mapping[str, Any], row: Mapping[str, str], file: str, line: int = 0) -> dict[str, Any]:
    """One case with its sizes as ints; the row goes before the options."""
    case: dict[str, Any] = dict(row)
    problems: dict[Problem, None] = {}  # rows and cols may share one
    for name in _NEEDED:
        value = str(row.get(name) or options.get(name, ""))
        number = int(value) if value.isdecimal() and len(value) < 15 else 0
        case[name] = value if name == "dataflow" else number
        if not value:
            message = "is missing"
        elif name == "dataflow" and value not in _DATAFLOWS:
            message = f"expected ws, os or is, not '{value}'"
        elif name != "dataflow" and not 1 <= number <= _MOST:
            message = f"expected a whole number from 1 to 2^40, not '{value}'"
        else:
            continue
        option = {"rows": "--array", "cols": "--array", "dataflow": "--dataflow"}.get(name, f"-{name}")
        problems[Problem(message, file, line, 1, name) if file else Problem(message, option)] = None
    if problems:
        raise InputError(list(problems))
    return case
