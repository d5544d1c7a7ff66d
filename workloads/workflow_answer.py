"""How workflows fared: from the first arrival of each to its last answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from archsim.workloads.answer import Answer
from archsim.workloads.requests import Step
from archsim.workloads.served import statistics

Row = Mapping[str, Any]


def with_workflows(answer: Answer, steps: Sequence[Step], within_s: float | None = None) -> tuple[Answer, ...]:
    """An answer of requests, each with its workflow and its stage, and that of the workflows, where there are any.

    Parameters
    ----------
    steps: of all requests by number. within_s: in which a workflow should have its last answer.
    """
    if not steps:
        return (answer,)
    rows = [
        {"request": row["request"], "workflow": step.workflow, "stage": step.stage, **row}
        for row in answer.rows
        for step in [steps[row["request"]]]
    ]
    return replace(answer, rows=rows), _workflow_answer(rows, steps, within_s)


def _workflow_answer(rows: Sequence[Row], steps: Sequence[Step], within_s: float | None = None) -> Answer:
    """The answer of workflows, those that never ran left out; as :func:`with_workflows`.

    Parameters
    ----------
    rows: of their requests, each with its workflow. steps, within_s: as there.
    """
    of_workflow: dict[str, list[Row]] = {}
    for row in rows:
        of_workflow.setdefault(row["workflow"], []).append(row)
    found = [_row(name, mine) for name, mine in of_workflow.items()]
    latencies = np.array([row["workflow_s"] for row in found if row["workflow_s"] is not None])
    last_s = max((row["end_s"] or 0.0 for row in found), default=0.0)
    summary: dict[str, Any] = {
        "workflows": len({step.workflow for step in steps}),
        "workflows_completed": len(latencies),
        "workflows_per_s": len(latencies) / last_s if last_s else 0.0,
        "requests_per_workflow": len(rows) / len(found) if found else 0.0,
        "workflow_s": statistics(latencies),
    }
    if within_s is not None:
        good = int((latencies <= within_s).sum())
        summary["workflow_goodput_per_s"] = good / last_s if last_s else 0.0
        summary["workflow_kept_share"] = good / summary["workflows"] if summary["workflows"] else 0.0
    stages = (
        ("until its first token", "arrival_s", "first_token_s"),
        ("until its last answer", "first_token_s", "end_s"),
    )
    return Answer("workflows", "Workflows", summary, found, stages)


def _row(name: str, rows: Sequence[Row]) -> dict[str, Any]:
    """One workflow."""
    ends = [row["end_s"] for row in rows]
    begun, end = min(row["arrival_s"] for row in rows), None if None in ends else max(ends)
    return {
        "workflow": name,
        "requests": len(rows),
        "input": sum(row["input"] for row in rows),
        "output": sum(row["output"] for row in rows),
        "reused": sum(row["reused"] for row in rows),
        "arrival_s": begun,
        "first_token_s": min((row["first_token_s"] for row in rows if row["first_token_s"] is not None), default=None),
        "end_s": end,
        "queued_s": sum(row["queued_s"] or 0.0 for row in rows),
        "workflow_s": None if end is None else end - begun,
    }
