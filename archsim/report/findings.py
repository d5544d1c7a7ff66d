"""Findings of an experiment: in a terminal, as a page, and as a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsim.config import to_yaml
from archsim.experiment import Findings
from archsim.files import csv_text, write_texts

if TYPE_CHECKING:
    from rich.console import Console

_STYLE = (
    "body{font:14px/1.5 sans-serif;margin:24px auto;max-width:1180px;padding:0 16px;color:#1d2733}"
    "p{margin:4px 0}.wide{overflow-x:auto}svg{min-width:760px;width:100%}table{border-collapse:collapse}"
    "td,th{padding:3px 10px;text-align:right;border-bottom:1px solid #dde3ea;white-space:nowrap}"
    "td:first-child,th:first-child{text-align:left}"
)


def show(findings: Findings, console: Console) -> None:
    """Print the lines and the tables."""
    from rich.table import Table

    for line in findings.lines:
        console.print(line)
    for title, rows in findings.tables.items():
        table = Table(title=title, title_justify="left", box=None)
        for key in rows[0]:
            table.add_column(key, justify="left" if isinstance(rows[0][key], str) else "right")
        for row in rows:
            table.add_row(*map(_shown, row.values()))
        console.print()
        console.print(table)


def write(findings: Findings, folder: Path) -> None:
    """Write all of it into a folder.

    Raises
    ------
    RunFailed: the disk is full or the folder cannot be written to; nothing is left there.
    """
    texts = {
        "result.json": json.dumps(findings.to_json(), indent=1, allow_nan=False) + "\n",
        "config.yaml": to_yaml(findings.spec),
        "report.html": page(findings),
    }
    texts |= {f"{title.replace(' ', '_')}.csv": csv_text(rows) for title, rows in findings.tables.items()}
    texts |= {f"{name}.svg": picture for name, picture in findings.pictures.items()}
    write_texts(folder, texts)


def page(findings: Findings) -> str:
    """The report, a file that asks nothing of the network."""
    name = escape(findings.spec.name)
    body = [f"<h1>{name}</h1>", *(f"<p>{escape(line)}</p>" for line in (*findings.lines, findings.spec.notes) if line)]
    body += [f'<div class="wide">{picture}</div>' for picture in findings.pictures.values()]
    for title, rows in findings.tables.items():
        body.append(f'<h2>{escape(title)}</h2><div class="wide"><table>{_head(rows[0])}')
        body += ["<tr>" + "".join(f"<td>{escape(_shown(v))}</td>" for v in row.values()) + "</tr>" for row in rows]
        body.append("</table></div>")
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{name}</title><style>{_STYLE}</style>" + "\n".join(body) + "</html>\n"
    )


def _head(row: Mapping[str, Any]) -> str:
    return "<tr>" + "".join(f"<th>{escape(str(key))}</th>" for key in row) + "</tr>"


def _shown(value: object) -> str:
    return f"{value:,.5g}" if isinstance(value, float) else str(value)
