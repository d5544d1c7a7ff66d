"""``archsim kernel``: kernels of a GPU, from options and from CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from archsim.cli.cases import give, read_rows
from archsim.cli.output import output_file
from archsim.errors import InputError, Problem, nearest

_ANSWERS = (
    "latency_us",
    "latency_low_us",
    "latency_high_us",
    "power_w",
    "energy_j",
    "pj_per_flop",
    "tflops",
    "gb_per_s",
    "bound",
    "tile",
    "split_k",
    "active_experts",
    "tokens_of_rank",
)
_SHORT = ("m", "n", "k")
_WITHOUT = {"kv_len": "isl"}  # a prompt without cached keys
_USUAL = {"kv_dtype": "bfloat16", "tp": "1", "ep": "1", "distribution": "balanced"}
_MOST = 2**31


def kernel(
    chip: str | None,
    op: str,
    options: Mapping[str, Any],
    pairs: Sequence[str],
    file: Path | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Answer the kernel of the options, or each row of the file; a row's ``device`` goes before the option's chip."""
    from archsim.config import load_spec
    from archsim.kernels import OPS, answer
    from archsim.machine import ChipSpec

    if op not in OPS:
        raise InputError([Problem(f"no kernel is called '{op}': {nearest(op, OPS)}", "--op")])
    output_file(out)
    given = dict(options) | _pairs(pairs, op)
    if file is None:
        cases, places = [_checked({}, given, op, "", 0)], []
    else:
        rows = list(read_rows(file))
        cases = [_checked(row, given, op, str(file), line) for line, row in rows]
        places = [f"{file}:{line}" for line, _ in rows]
    chips = list(dict.fromkeys(str(case.get("device") or chip or "") for case in cases))
    if "" in chips:
        raise InputError([Problem("is missing: the chip to run on", "--chip")])
    answers: list[dict[str, Any]] = [{} for _ in cases]
    for name in chips:
        mine = [i for i, case in enumerate(cases) if str(case.get("device") or chip) == name]
        spec = load_spec(name, ChipSpec, category="chips")
        found = answer(spec, op, [cases[i] for i in mine], [places[i] for i in mine] if places else ())
        for i, row in zip(mine, found, strict=True):
            answers[i] = row
    give(answers, file is not None, out, as_json)


def _pairs(pairs: Sequence[str], op: str) -> dict[str, str]:
    """Columns from ``KEY=VALUE``; the function of a row-wise kernel is its column ``op``."""
    from archsim.kernels import MORE, OPS

    known = [*OPS[op], *MORE.get(op, ()), "kernel", "measurement"]
    found = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        key = "op" if key == "function" else key
        if key not in known or not value:
            shown = ["function" if name == "op" else name for name in known]
            raise InputError([Problem(f"'{pair}' is no KEY=VALUE of '{op}': {nearest(key, shown)}", "--with")])
        found[key] = value
    return found


def _checked(row: Mapping[str, str], options: Mapping[str, Any], op: str, file: str, line: int) -> dict[str, Any]:
    """One case: numbers as ints; the row goes before the options, and what is usual before nothing."""
    from archsim.kernels import MORE, OPS, WORDS

    # A measured latency stays, under another name than the answer's.
    case: dict[str, Any] = {f"given_{name}" if name in _ANSWERS else name: value for name, value in row.items()}
    for name in ("kernel", "measurement"):
        if name in options:
            case.setdefault(name, options[name])
    problems = []
    more = [name for name in MORE.get(op, ()) if row.get(name) or options.get(name)]
    for name in (*OPS[op], *more):
        stand_in = _WITHOUT.get(name, "")
        given = (row.get(name), options.get(name), row.get(stand_in), options.get(stand_in), _USUAL.get(name))
        value = next((str(each) for each in given if each not in (None, "")), "")
        number = int(value) if value.isdecimal() and len(value) < 12 else 0
        if not value:
            message = "is missing"
        elif name not in WORDS and not 1 <= number <= _MOST:
            message = f"expected a whole number from 1 to 2^31, not '{value}'"
        else:
            case[name] = value if name in WORDS else number
            continue
        option = f"-{name}" if name in _SHORT else "--dtype" if name == "dtype" else f"--with {name}=..."
        problems.append(Problem(message, file, line, 1, name) if file else Problem(message, option))
    if problems:
        raise InputError(problems)
    return case
