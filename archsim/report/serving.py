"""A page of requests that were served: latencies as tables, what ran, waited and was drawn over time, each request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from archsim.report import answers
from archsim.report.workflows import pictures


def page(told: Sequence[Mapping[str, Any]], asked: Mapping[str, Any]) -> str:
    """The page.

    Parameters
    ----------
    told: answers as :meth:`archsim.workloads.answer.Answer.plain` gives them. asked: what was asked for, by name.
    """
    style = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
    title = f"{asked.get('model', 'a model')} served on {asked.get('system', 'a machine')}"
    said = ", ".join(f"{name} {value}" for name, value in asked.items() if name not in ("model", "system") and value)
    last = max((row["end_s"] or 0.0 for answer in told for row in answer["rows"]), default=0.0)
    return "".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title><style>{style}</style></head><body><main>",
            f"<h1>{escape(title)}</h1><p>{escape(said)}</p>",
            *(
                f"<section><h2>{escape(answer['title'])}</h2>{answers.section(answer, last)}"
                f"{pictures(told[0]['rows'], answer['rows']) if answer['name'] == 'workflows' else ''}</section>"
                for answer in told
            ),
            "</main></body></html>\n",
        ]
    )
