"""Recorded workflows, in JSON lines or CSV.

=========  ==============================================================================================
column     of a request
=========  ==============================================================================================
workflow   the workflow that it belongs to
id         its name there
input      tokens of the prompt
output     tokens of the answer
arrival_s  when it comes, where it waits for nobody
after      ids of those whose answers it waits for: a list, in CSV with semicolons
gap_s      from the last of these answers until it arrives: the time of a tool, 0 when absent
context    ids of those whose tokens, of prompt and answer, are the beginning of its prompt
stage      its kind: requests of one stage are alike, its id when absent
shared     tokens with which all prompts of its stage begin alike
=========  ==============================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from archsim.errors import InputError, Problem, shortened
from archsim.files import lines
from archsim.workloads.recorded import recorded_file
from archsim.workloads.requests import rows_of, time_of, tokens_of
from archsim.workloads.workflow import Asked

_PS = 10**12


def holds_workflows(path: str, format: str = "auto") -> bool:
    """Whether a file is one of workflows: so it is said, or it has such a column."""
    file = recorded_file(path)
    if format != "auto" or file.suffix == ".json":
        return format == "workflows"
    if file.suffix == ".csv":
        return "workflow" in [name.strip() for name in next(lines(file), (0, ""))[1].split(",")]
    return "workflow" in next(rows_of(file), (0, dict[str, Any]()))[1]


def read_workflows(path: str, count: int | None = None, first: int = 0) -> list[Asked]:
    """The requests of a file as they are written; arrivals are counted from the first one.

    Parameters
    ----------
    count: workflows to return, in the order in which they begin in the file; None for all. first: to skip before.

    Raises
    ------
    InputError: the file cannot be read, a column is missing or means nothing, or there are fewer workflows than were
        asked for; file and line are told.
    """
    file = recorded_file(path)
    asked = [_asked(file, line, row) for line, row in rows_of(file)]
    names = list(dict.fromkeys(one.workflow for one in asked))
    taken = names[first:] if count is None else names[first : first + count]
    if not taken or (count is not None and len(taken) < count):
        wanted = "one" if count is None else f"{count} after the first {first}" if first else str(count)
        raise InputError([Problem(f"holds {len(taken)} workflows where {wanted} are asked for", str(file))])
    chosen = set(taken)
    asked = [one for one in asked if one.workflow in chosen]
    start_ps = min((one.arrival_ps for one in asked if not one.after), default=0)
    return [one if one.after else replace(one, arrival_ps=one.arrival_ps - start_ps) for one in asked]


def _asked(file: Path, line: int, row: Mapping[str, Any]) -> Asked:
    """A row."""
    workflow, name = (_name(row, key, file, line) for key in ("workflow", "id"))
    after, context = (_names(row.get(key), key, file, line) for key in ("after", "context"))
    given = row.get("arrival_s") not in (None, "")
    if given == bool(after):
        wrong = "give one of arrival_s, when it comes, and after, whose answers it waits for"
        raise InputError([Problem(wrong, str(file), line, 1)])
    prompt, answer = (tokens_of(row, key, file, line) for key in ("input", "output"))
    for what, tokens in (("a prompt", prompt), ("an answer", answer)):
        if not tokens:
            raise InputError([Problem(f"{what} of zero tokens: at least one is asked for", str(file), line, 1)])
    shared = tokens_of(row, "shared", file, line) if row.get("shared") not in (None, "") else 0
    if shared and context:
        wrong = "give one of shared and context: a prompt begins with one of them"
        raise InputError([Problem(wrong, str(file), line, 1)])
    gap_ps = time_of(row, "gap_s", _PS, file, line) if row.get("gap_s") not in (None, "") else 0
    if gap_ps < 0 or (gap_ps and not after):
        wrong = f"'gap_s' is '{shortened(row['gap_s'])}': a time after answers that are waited for, not before them"
        raise InputError([Problem(wrong, str(file), line, 1)])
    arrival_ps = time_of(row, "arrival_s", _PS, file, line) if given else 0
    stage = str(row.get("stage") or name)
    return Asked(workflow, name, stage, prompt, answer, arrival_ps, after, gap_ps, context, shared, line)


def _name(row: Mapping[str, Any], key: str, file: Path, line: int) -> str:
    value = row.get(key)
    if value in (None, "") or isinstance(value, (dict, list, bool)):
        raise InputError([Problem(f"'{key}' is missing: a name or a number", str(file), line, 1)])
    return str(value).strip()


def _names(value: Any, key: str, file: Path, line: int) -> tuple[str, ...]:
    """Ids, in a list or with semicolons between them."""
    told: Sequence[Any] = str(value or "").split(";") if not isinstance(value, list) else value
    if any(isinstance(one, (dict, list, bool)) or one is None for one in told):
        raise InputError([Problem(f"'{key}' is no list of ids", str(file), line, 1)])
    return tuple(text for one in told if (text := str(one).strip()))
