"""The page of all claims: ``python -m archsim.validation.page > docs/claims.md``."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Mapping, Sequence

from archsim.validation.framework import FOLDER, Claims, Row, names, run_suites
from archsim.validation.information import Figure

_MOST_SHOWN = 60  # rows of one role in a suite; of more only those that are missed
_INTRODUCTION = """\
# Claims

Every published or recomputed figure that archsim is held against, and what it answers. This page is written by
`python -m archsim.validation.page`; the same rows come from `archsim validate`.

An *exact* claim is the answer of another simulator, of RTL or of a formula, and has no tolerance. A *calibration* set a
parameter of the model and proves nothing by itself. A *validation* is a prediction. The error is relative to the
published figure. A miss stays a miss, and its cause is named where it is known.
"""


def page(rows: Sequence[Row], figures: Mapping[str, Sequence[Figure]]) -> str:
    """The page in Markdown.

    Parameters
    ----------
    rows: answers to the claims, all rows of a suite together. figures: suite to its further figures.
    """
    suites: dict[str, list[Row]] = {}
    for row in rows:
        suites.setdefault(row["suite"], []).append(row)
    sections = (section(suite, suites[suite], figures.get(suite, ())) for suite in sorted(suites))
    return "\n".join([_INTRODUCTION, _overview(suites), *sections])


def section(suite: str, rows: Sequence[Row], figures: Sequence[Figure]) -> str:
    """The part of the page about one suite."""
    return "\n".join([f"## {suite}\n\n{_about(suite)}\n", *_roles(rows), *_information(figures)])


def counts(suite: str, rows: Sequence[Row]) -> list[str]:
    """The cells of a suite's line in the overview: how many rows of each role passed, and how many are missed."""
    cells = [f"[{suite}](#{suite})"]
    for role in ("exact", "calibration", "validation"):
        of_role = [row for row in rows if row["role"] == role]
        cells.append(_passed(of_role) if of_role else "")
    return [*cells, str(sum(not row["passed"] for row in rows))]


def information(suites: Iterable[str]) -> dict[str, list[Figure]]:
    """Figures of the suites that show some, beside their claims."""
    found: dict[str, list[Figure]] = {}
    for suite in suites:
        module = importlib.import_module(f"archsim.validation.{suite}.suite")
        if hasattr(module, "information"):
            found[suite] = module.information()
    return found


def _overview(suites: Mapping[str, Sequence[Row]]) -> str:
    lines = [counts(suite, suites[suite]) for suite in sorted(suites)]
    lines.append(["all", *counts("", [row for rows in suites.values() for row in rows])[1:]])
    return _table(["suite", "exact passed", "calibration passed", "validation passed", "missed"], lines, "lrrrr")


def _roles(rows: Sequence[Row]) -> list[str]:
    """Of each role a table, or of a large one a line and the misses; then the causes."""
    parts = []
    shown: list[Row] = []
    for role in ("exact", "calibration", "validation"):
        of_role = [row for row in rows if row["role"] == role]
        if len(of_role) <= _MOST_SHOWN and role != "exact":
            shown += of_role
        elif of_role:
            worst = max(abs(row["error"]) for row in of_role)
            sources = ", ".join(sorted({row["source"] for row in of_role}))
            parts.append(
                f"{role.capitalize()}: {_passed(of_role)} passed, largest error {_percent(worst)}"
                f"{'' if len(sources) > 200 else f' ({_escaped(sources)})'}.\n"
            )
            shown += [row for row in of_role if not row["passed"]]
    if shown:
        parts.append(
            _table(
                ["case", "figure", "unit", "published", "archsim", "error", "tolerance", "role", "", "source"],
                [
                    [
                        row["case"],
                        row["metric"],
                        row["unit"],
                        _number(row["published"]),
                        _number(row["simulated"]),
                        _percent(row["error"], "+"),
                        _percent(row["tolerance"]),
                        row["role"],
                        "passed" if row["passed"] else "**missed**",
                        row["source"],
                    ]
                    for row in shown
                ],
                "lllrrrrlll",
            )
        )
    causes = [f"- {row['case']}, {row['metric']}: {row['cause'] or 'not known'}" for row in rows if not row["passed"]]
    if causes:
        parts.append("Causes of the misses:\n\n" + "\n".join(map(_escaped, causes)) + "\n")
    return parts


def _information(figures: Sequence[Figure]) -> list[str]:
    if not figures:
        return []
    return [
        "For information, held against nothing:\n",
        _table(
            ["case", "figure", "unit", "archsim", "remark"],
            [[f.case, f.metric, f.unit, _number(f.value), f.remark] for f in figures],
            "lllrl",
        ),
    ]


def _about(suite: str) -> str:
    """What the suite holds against what: of ``claims.yaml``, else of the module's docstring."""
    from archsim.config import load_spec

    path = FOLDER / suite / "claims.yaml"
    module = importlib.import_module(f"archsim.validation.{suite}.suite")
    texts = [" ".join(text.split()) for text in (module.__doc__ or "").strip().split("\n\n")]
    if path.exists():
        texts.append(" ".join(load_spec(path, Claims).about.split()))
    return _escaped("\n\n".join(texts))


def _table(columns: Sequence[str], lines: Iterable[Sequence[str]], sides: str) -> str:
    rules = ["---:" if side == "r" else "---" for side in sides]
    return (
        "\n".join(
            "| " + " | ".join(cells) + " |"
            for cells in (columns, rules, *([_escaped(cell) for cell in line] for line in lines))
        )
        + "\n"
    )


def _passed(rows: Sequence[Row]) -> str:
    return f"{sum(bool(row['passed']) for row in rows):,} of {len(rows):,}"


def _number(value: float) -> str:
    """Counts in full, others with four digits."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}"


def _percent(share: float, sign: str = "") -> str:
    """Two digits after the point, more of a smaller one; no negative zero."""
    if 0 < abs(share) < 5e-5:
        return f"{100 * share:{sign}.2g}%"
    return f"{round(100 * share, 2) + 0.0:{sign}.2f}%"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    sys.stdout.write(page(run_suites(), information(names())))
