"""``archsim kernel``: GEMM kernels of a GPU, from options and from CSV."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from archsim.cli.cases import give, read_rows
from archsim.cli.output import output_file
from archsim.errors import InputError, Problem, nearest

_SIZES = ("m", "n", "k")
_OPS = ("gemm",)
_ALIASES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32", "half": "fp16"}
_ANSWERS = ("latency_us", "tflops", "bound", "tile", "split_k")
_MOST = 2**31


def kernel(
    chip: str | None,
    op: str,
    options: Mapping[str, Any],
    eager: bool,
    file: Path | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Answer the kernel of the options, or each row of the file; a row's ``device`` goes before the option's chip."""
    if op not in _OPS:
        raise InputError([Problem(f"no kernel is called '{op}': {nearest(op, _OPS)}", "--op")])
    output_file(out)
    if file is None:
        cases = [_checked({}, options, "", 0)]
    else:
        cases = [_checked(row, options, str(file), line) for line, row in read_rows(file)]
    chips = list(dict.fromkeys(str(case.get("device") or chip or "") for case in cases))
    if "" in chips:
        raise InputError([Problem("is missing: the chip to run on", "--chip")])

    from archsim.config import load_spec
    from archsim.kernels import answer
    from archsim.machine import ChipSpec

    answers: list[dict[str, Any]] = [{} for _ in cases]
    for name in chips:
        mine = [i for i, case in enumerate(cases) if str(case.get("device") or chip) == name]
        spec = load_spec(name, ChipSpec, category="chips")
        for i, row in zip(mine, answer(spec, [cases[i] for i in mine], eager), strict=True):
            answers[i] = row
    give(answers, file is not None, out, as_json)


def _checked(row: Mapping[str, str], options: Mapping[str, Any], file: str, line: int) -> dict[str, Any]:
    """One case: sizes as ints, the format by our name for it; the row goes before the options."""
    # A measured latency stays, under another name than the answer's.
    case: dict[str, Any] = {f"given_{name}" if name in _ANSWERS else name: value for name, value in row.items()}
    problems = []
    for name in (*_SIZES, "dtype"):
        value = str(row.get(name) or options.get(name, ""))
        number = int(value) if value.isdecimal() and len(value) < 12 else 0
        if not value:
            message = "is missing"
        elif name != "dtype" and not 1 <= number <= _MOST:
            message = f"expected a whole number from 1 to 2^31, not '{value}'"
        else:
            case[name] = _ALIASES.get(value, value) if name == "dtype" else number
            continue
        option = "--dtype" if name == "dtype" else f"-{name}"
        problems.append(Problem(message, file, line, 1, name) if file else Problem(message, option))
    if problems:
        raise InputError(problems)
    return case
