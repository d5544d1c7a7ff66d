"""A result as a folder: ``result.json``, tables, the resolved config, the timeline and the report."""

from __future__ import annotations

import json
from pathlib import Path

from archsim.config import to_yaml
from archsim.files import csv_text, write_texts
from archsim.report import html, timeline
from archsim.result import Result


def write(result: Result, folder: Path) -> None:
    """Write all of a result into ``folder``.

    Raises
    ------
    RunFailed: the disk is full or the folder cannot be written to; nothing of the result is left there.
    """
    document, trace = result.to_json(), timeline.to_perfetto(result)
    texts = {
        "result.json": json.dumps(document, indent=1, allow_nan=False) + "\n",
        "config.yaml": to_yaml(result.spec),
        "timeline.json": trace,
        "report.html": html.to_page(document, json.loads(trace)),
    }
    for name, rows in (
        ("ops", result.flat_op_rows()),
        ("components", result.component_rows()),
        ("kinds", result.kind_rows()),
        ("memory", result.memory_rows()),
        ("segments", result.segment_rows()),
    ):
        texts[f"{name}.csv"] = csv_text(rows)
    write_texts(folder, texts)
