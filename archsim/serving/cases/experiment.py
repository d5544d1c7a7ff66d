"""Requests of an experiment, one a row: rows of one deployment are served together."""

from __future__ import annotations

from collections.abc import Sequence

from archsim.errors import InputError, wrong
from archsim.serving.cases.benchmark import completed
from archsim.serving.cases.case import MS, PS, Answer, Case, deployment, whole_of
from archsim.serving.deploy import placed
from archsim.workloads.requests import Request


def request_of(case: Case) -> Request:
    """The request of a row."""
    for name in ("input_toks", "output_toks"):
        if not whole_of(case, name):
            raise wrong(name, "a request asks for at least one token")
    arrival = float(case.get("arrival_s") or 0.0)
    if not 0 <= arrival < 1e9:
        raise wrong("arrival_s", f"expected a time from 0 on, not {arrival:g}")
    return Request(round(arrival * PS), whole_of(case, "input_toks"), whole_of(case, "output_toks"))


def experiment(cases: Sequence[Case]) -> list[Answer]:
    """Requests that one engine serves as they come."""
    requests = [request_of(case) for case in cases]
    order = sorted(range(len(cases)), key=lambda i: requests[i].arrival_ps)
    longest = max(r.input + r.output for r in requests)
    at = placed(deployment(completed(cases[0])[0], longest))
    service = at.service()
    refused = service.serve([requests[i] for i in order])
    rows = {row["request"]: row for row in service.answer().rows}
    found: list[Answer] = [{}] * len(cases)
    for number, i in enumerate(order):
        if number in refused:
            found[i] = InputError(f"can never run: {refused[number]}")
            continue
        row = rows[number]
        tpot = row["tpot_s"]
        found[i] = {
            "ttft_ms": row["ttft_s"] * MS,
            "tpot_ms": None if tpot is None else tpot * MS,
            "latency_ms": row["e2e_s"] * MS,
        }
    return found
