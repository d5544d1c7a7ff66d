"""Recorded requests: how many tokens came in and went out, read from the files in which they are published.

Formats are told apart by what the file holds:

=========  ===========================================================  =======================
format     columns or keys                                             published with
=========  ===========================================================  =======================
azure      TIMESTAMP, ContextTokens, GeneratedTokens (CSV)             Azure LLM traces 2023, 2024
burstgpt   Timestamp (s), Request tokens, Response tokens (CSV)        BurstGPT, KDD 2025
mooncake   timestamp (ms), input_length, output_length (JSON lines)    Mooncake, FAST 2025
sharegpt   input_toks, output_toks, arrival_time_ns (JSON lines)       LLMServingSim
splitwise  arrival_timestamp (s), prompt_size, token_size (CSV)        Splitwise, ISCA 2024
vidur      arrived_at (s), num_prefill_tokens, num_decode_tokens (CSV) Vidur, MLSys 2024
vllm       prompt (a text), output_tokens (JSON lines)                 vLLM, custom datasets
vllm       a list of conversations of from, value (JSON)               ShareGPT
requests   arrival_s, input, output (CSV or JSON lines)                archsim
cases      arrival_s, input_toks, output_toks (CSV or JSON lines)      archsim's serve --cases
workflows  the same with workflow, id, after, ... (CSV or JSON lines)  archsim
=========  ===========================================================  =======================

Of texts, four bytes of UTF-8 are counted as a token, as is usual for English. Of a conversation the first question is
asked and its answer given, and those with less than four tokens of either are left out, as vLLM's benchmark does. Such
files tell no arrivals: all come at once, or at a rate that is asked for. Workflows are read by
:mod:`archsim.workloads.workflow_trace`.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

from archsim.config import File
from archsim.errors import InputError, Problem, nearest, shortened
from archsim.files import lines, parse_json, read_rows, read_text
from archsim.spec import Count, Spec
from archsim.units import whole
from archsim.workloads.kv_blocks import Contents
from archsim.workloads.recorded import recorded_file


@dataclass(frozen=True, slots=True)
class Step:
    """The place of a request in a workflow.

    Attributes
    ----------
    workflow: which one. stage: requests of one stage are alike. after: numbers of the requests whose answers it waits
    for; gap_ps: from the last of these until it arrives.
    """

    workflow: str
    stage: str = ""
    after: tuple[int, ...] = ()
    gap_ps: int = 0


@dataclass(frozen=True)
class Request:
    """One request.

    Attributes
    ----------
    arrival_ps: time of arrival after the first request, ps; unknown, and 0, while it waits for others' answers.
    input, output: tokens of the prompt and of the answer.
    contents: whose tokens they are, see :mod:`archsim.workloads.kv_blocks`; nobody else's when empty.
    step: its place in a workflow, of which it is the only request when absent.
    due_ps: when it should have its answer, and expected: tokens of the answer that schedulers reckon with; None where
    nobody has said so.
    """

    arrival_ps: int
    input: int
    output: int
    contents: Contents = ()
    step: Step | None = None
    due_ps: int | None = None
    expected: int | None = None


@dataclass(frozen=True)
class _Format:
    """Names of the columns of a format, and the picoseconds of its time unit (None: a date and time). Where no
    arrival is told the input is a text. ``also``: a further column by which it is known."""

    arrival: str | None
    input: str
    output: str
    arrival_unit_ps: int | None = None
    also: str = ""


TraceFormat = Literal[
    "auto", "azure", "burstgpt", "mooncake", "sharegpt", "splitwise", "vidur", "vllm", "workflows", "requests", "cases"
]

_FORMATS = {
    "azure": _Format("TIMESTAMP", "ContextTokens", "GeneratedTokens", None),
    "burstgpt": _Format("Timestamp", "Request tokens", "Response tokens", 10**12),
    "mooncake": _Format("timestamp", "input_length", "output_length", 10**9),
    "sharegpt": _Format("arrival_time_ns", "input_toks", "output_toks", 10**3),
    "splitwise": _Format("arrival_timestamp", "prompt_size", "token_size", 10**12),
    "vidur": _Format("arrived_at", "num_prefill_tokens", "num_decode_tokens", 10**12),
    "vllm": _Format(None, "prompt", "output_tokens"),
    "workflows": _Format("arrival_s", "input", "output", 10**12, "workflow"),
    "requests": _Format("arrival_s", "input", "output", 10**12),
    "cases": _Format("arrival_s", "input_toks", "output_toks", 10**12),
}


_MOST_TOKENS = 2**40
_MOST_CONVERSATION_BYTES = 2**30
_TOKEN_BYTES = 4
_LEAST_TOKENS = 4
_HASHED_TOKENS = 512  # of a block of Mooncake's traces
_MOMENT = re.compile(r"(?P<seconds>[^.]*?)(\.(?P<fraction>\d*))?(?P<offset>Z|[+-]\d\d:?\d\d)?", re.ASCII)


class RecordedLengths(Spec):
    """Prompt and answer lengths taken from a recorded file."""

    path: Annotated[str, File("traces")]
    """the file, relative to the one that names it, or the name of a shipped trace"""
    format: TraceFormat = "auto"
    """how the file is written; auto looks at its columns"""
    requests: Count = 16
    """requests that are taken; they form one batch"""
    first: int = 0
    """requests that are skipped before"""
    bucket: Count = 1
    """lengths are rounded up to a multiple of this many tokens; 1 keeps them exact"""


def rows_of(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The rows of a file with their line numbers."""
    if path.suffix == ".csv":
        yield from read_rows(path)
        return
    if path.suffix == ".json":
        yield from _conversations(path)
        return
    for number, line in lines(path):
        if not line.strip():
            continue
        data = parse_json(line, str(path), number)
        if not isinstance(data, dict):
            raise InputError([Problem("a request is a JSON object", str(path), number, 1)])
        yield number, data


def _conversations(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The first question of each conversation, and the tokens of its answer, with its number."""
    told = parse_json(read_text(path, _MOST_CONVERSATION_BYTES), str(path))
    for number, chat in enumerate(told if isinstance(told, list) else [], start=1):
        turns = chat.get("conversations") if isinstance(chat, dict) else None
        if not isinstance(turns, list) or not all(
            isinstance(t, dict) and isinstance(t.get("value"), str) for t in turns
        ):
            message = f"conversation {number} is no list of turns of 'from' and 'value' under 'conversations'"
            raise InputError([Problem(message, str(path))])
        texts = [str(turn["value"]) for turn in turns[:2]]
        if len(texts) == 2 and min(map(_text_tokens, texts)) >= _LEAST_TOKENS:
            yield number, {"prompt": texts[0], "output_tokens": _text_tokens(texts[1])}


def _text_tokens(text: str) -> int:
    return -(-len(text.encode()) // _TOKEN_BYTES)


def _detect(path: Path, row: Mapping[str, Any]) -> str:
    for name, form in _FORMATS.items():
        if all(column in row for column in (form.arrival, form.input, form.output, form.also) if column):
            return name
    columns = shortened(", ".join(str(key) for key in row), 200)
    expected = "; ".join(
        f"{name}: {', '.join(filter(None, (form.arrival, form.input, form.output)))}" for name, form in _FORMATS.items()
    )
    raise InputError([Problem(f"holds no known columns ({columns}); known are {expected}", str(path))])


def tokens_of(row: Mapping[str, Any], key: str, path: Path, line: int) -> int:
    """A number of tokens."""
    if key not in row:
        raise InputError([Problem(f"'{key}' is missing: {nearest(key, row)}", str(path), line, 1)])
    value = row[key]
    try:
        return whole(str(value), most=_MOST_TOKENS)
    except InputError:
        message = f"'{key}' is '{shortened(value)}', which is no number of tokens (at most {_MOST_TOKENS:,})"
        raise InputError([Problem(message, str(path), line, 1)]) from None


def time_of(row: Mapping[str, Any], key: str, unit_ps: int | None, path: Path, line: int) -> int:
    """Picoseconds; of a date and time without an offset, as if it were UTC."""
    value = row.get(key)
    text = str(value).strip()
    try:
        if unit_ps is not None:
            if re.fullmatch(r"-?\d{1,20}(\.\d{1,20})?", text) is None:
                raise ValueError
            return int(Fraction(text) * unit_ps)
        # seven decimals, one more than datetime reads
        parts = _MOMENT.fullmatch(text)
        if parts is None:
            raise ValueError
        moment = datetime.datetime.fromisoformat(parts["seconds"] + (parts["offset"] or "+00:00"))
        return int(moment.timestamp()) * 10**12 + int(f"{parts['fraction'] or '':0<12.12}")
    except (ValueError, OverflowError):
        message = f"'{key}' is '{shortened(value)}', which is no time"
        raise InputError([Problem(message, str(path), line, 1)]) from None


def read_requests(path: str | Path, format: str = "auto", limit: int | None = None, first: int = 0) -> list[Request]:
    """The requests of a file, arrivals counted from the first one that is returned.

    Parameters
    ----------
    path: a CSV or JSON-lines file.
    format: one of those above, or auto.
    limit: requests to return; None for all. first: requests to skip before.

    Raises
    ------
    InputError: the file cannot be read, a row lacks a column or holds no number, or there are fewer requests
        than were asked for; file and line are told.
    """
    return [request for _, request in _read(recorded_file(str(path)), format, limit, first)]


def read_arrivals(
    path: str | Path, format: str = "auto", limit: int | None = None, first: int = 0
) -> Iterator[Request]:
    """As :func:`read_requests`, of a file in the order of arrivals whose requests all ask for something.

    Raises
    ------
    InputError: as there; a request that arrives before the one above it, or has no tokens; file and line are told.
    """
    path = recorded_file(str(path))
    before = 0
    for line, request in _read(path, format, limit, first):
        if request.arrival_ps < before:
            early = f"{(before - request.arrival_ps) / 1e12:g} s"
            raise InputError(
                [Problem(f"out of order: arrives {early} before the request above it", str(path), line, 1)]
            )
        for what, tokens in (("a prompt", request.input), ("an answer", request.output)):
            if not tokens:
                raise InputError([Problem(f"{what} of zero tokens: at least one is asked for", str(path), line, 1)])
        before = request.arrival_ps
        yield request


def _contents(hashes: Any, tokens: int, line: int, path: Path) -> Contents:
    """Owners of a prompt's tokens: its hashed blocks, and what is the request's alone."""
    if not isinstance(hashes, list) or not all(isinstance(h, int) for h in hashes):
        raise InputError([Problem("'hash_ids' is no list of whole numbers", str(path), line, 1)])
    blocks = [(("block", h), min((i + 1) * _HASHED_TOKENS, tokens)) for i, h in enumerate(hashes)]
    return (*blocks, (("request", line), tokens))


def _read(path: Path, format: str, limit: int | None, first: int) -> Iterator[tuple[int, Request]]:
    """Requests with their lines."""
    if format not in ("auto", *_FORMATS):
        raise InputError(f"no request format is called '{format}': {nearest(format, _FORMATS)}")
    stop = None if limit is None else first + limit
    count = start = 0
    for line, row in islice(rows_of(path), first, stop):
        if format == "auto":
            format = _detect(path, row)
        form = _FORMATS[format]
        if form.also:
            raise InputError([Problem("holds workflows, whose requests wait for each other: serve them", str(path))])
        arrival = 0 if form.arrival is None else time_of(row, form.arrival, form.arrival_unit_ps, path, line)
        prompt = tokens_of(row, form.input, path, line) if form.arrival else _text_tokens(str(row.get(form.input, "")))
        tokens = prompt, tokens_of(row, form.output, path, line)
        contents = _contents(row["hash_ids"], tokens[0], line, path) if "hash_ids" in row else ()
        start = start if count else arrival
        count += 1
        yield line, Request(arrival - start, *tokens, contents)
    if not count or (limit is not None and count < limit):
        wanted = "one" if limit is None else f"{limit} after the first {first}" if first else str(limit)
        raise InputError([Problem(f"holds {count} requests where {wanted} are asked for", str(path))])
