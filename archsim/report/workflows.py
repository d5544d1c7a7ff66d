"""Pictures of workflows: how many end within which time, and one of them, request by request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from archsim.report.curves import Series, picture
from archsim.report.pictures import legend, quantity, ticks

_STAGES = (
    ("waits", "arrival_s", "scheduled_s"),
    ("prompt", "scheduled_s", "first_token_s"),
    ("answer", "first_token_s", "end_s"),
)
_WIDTH, _NAMES, _LANE = 1000, 150, 16  # of a picture; of its names, of a line
_MOST_LANES = 200

Row = Mapping[str, Any]


def pictures(requests: Sequence[Row], workflows: Sequence[Row]) -> str:
    """Both, where some have ended.

    Parameters
    ----------
    requests, workflows: rows of their answers.
    """
    ended = sorted((row for row in workflows if row["workflow_s"] is not None), key=lambda row: row["workflow_s"])
    if not ended:
        return ""
    points = [(row["workflow_s"], 100 * (n + 1) / len(workflows)) for n, row in enumerate(ended)]
    svg = picture(
        "Workflows that have ended",
        "from the first arrival to the last answer",
        ("seconds", "% of workflows"),
        [Series("workflows", [(0.0, 0.0), *points])],
        (False, False),
    )
    return f"{svg}{_one(requests, ended[len(ended) // 2], 'A median one')}{_one(requests, ended[-1], 'The longest')}"


def _one(requests: Sequence[Row], workflow: Row, which: str) -> str:
    """A workflow, a line for each of its requests."""
    mine = [row for row in requests if row["workflow"] == workflow["workflow"]]
    mine.sort(key=lambda row: (row["arrival_s"], row["request"]))
    span_s, begun_s, drawn = workflow["workflow_s"], workflow["arrival_s"], []
    for number, row in enumerate(mine[:_MOST_LANES]):
        y = _LANE * number
        drawn.append(
            f'<text x="0" y="{y + 11}" style="font-size:11px;fill:var(--ink)">{escape(row["stage"][:24])}</text>'
        )
        for colour, (label, start, end) in enumerate(_STAGES):
            if row[start] is None or row[end] is None or row[end] <= row[start] or not span_s:
                continue
            x = _NAMES + (_WIDTH - _NAMES) * (row[start] - begun_s) / span_s
            width = (_WIDTH - _NAMES) * (row[end] - row[start]) / span_s
            facts = f"{row['stage']}, {label}: {quantity(row[end] - row[start], 's')}\n{_tokens(row)}"
            drawn.append(
                f'<rect class="k{colour}" x="{x:.2f}" y="{y + 2}" width="{max(width, 0.5):.2f}" height="{_LANE - 4}" '
                f'style="fill:var(--c)" data-tip="{escape(facts)}"/>'
            )
    height = _LANE * max(len(mine[:_MOST_LANES]), 1)
    left_out = len(mine) - _MOST_LANES
    title = f"{which}: workflow {workflow['workflow']}, {quantity(span_s, 's')}"
    key = legend((f"k{colour}", label) for colour, (label, _, _) in enumerate(_STAGES))
    svg = (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(title)}" '
        f'style="display:block;width:100%">{"".join(drawn)}</svg>'
    )
    axis = f'<div style="position:relative;margin-left:{100 * _NAMES / _WIDTH:g}%">{ticks(span_s or 1.0, 8)}</div>'
    note = f"<p><small>{left_out:,} of its requests are not drawn</small></p>" if left_out > 0 else ""
    return f"<h3>{escape(title)}</h3>{key}{svg}{axis}{note}"


def _tokens(row: Row) -> str:
    return f"{row['input']:,} tokens in, {row['reused']:,} of them found, {row['output']:,} out"
