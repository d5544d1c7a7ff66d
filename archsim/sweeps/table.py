"""The table of a sweep, its Pareto front and its plot."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from archsim.files import plain_cell, write_bytes
from archsim.sweeps.points import Point, SweepSpec
from archsim.sweeps.work import Record

_FIGURES = ("time_s", "energy_j.total", "area_mm2.total", "bound_by")


def pareto_front(costs: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Which rows of [points, objectives] no other row beats: as low in all, lower in one."""
    front = np.zeros(len(costs), dtype=bool)
    for i, cost in enumerate(costs):
        front[i] = not ((costs <= cost).all(axis=1) & (costs < cost).any(axis=1)).any()
    return front


def make_table(spec: SweepSpec, points: Sequence[Point], records: Mapping[str, Record]) -> pd.DataFrame:
    """One row a point, in the order of the sweep."""
    paths = dict.fromkeys(path for point in points for path in point.values)
    figures = dict.fromkeys([*spec.objectives, *_FIGURES])
    rows = []
    for point in points:
        record = records[point.key]
        found = record.figures()
        rows.append(
            {
                **{path: _plain(point.values.get(path)) for path in paths},
                **{name: found.get(name) for name in figures},
                "pareto": False,
                "key": "" if point.problem else point.key,
                "error": record.error,
            }
        )
    table = pd.DataFrame(rows)
    good = table.index[table["error"] == ""]
    if len(good):
        signs = np.array([1.0 if way == "min" else -1.0 for way in spec.objectives.values()])
        costs = table.loc[good, list(spec.objectives)].to_numpy(dtype=np.float64) * signs
        table.loc[good, "pareto"] = pareto_front(costs)
    return table


def _plain(value: Any) -> Any:
    """A value of a point as one cell."""
    return json.dumps(value) if isinstance(value, dict | list | tuple) else value


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of the table as JSON data."""
    rows: list[dict[str, Any]] = json.loads(table.to_json(orient="records", double_precision=15))
    return rows


def table_csv(table: pd.DataFrame) -> str:
    """The table as CSV, in which a spreadsheet computes nothing."""
    plain = table.rename(columns=plain_cell)
    for name in plain.columns:
        if plain[name].dtype.kind not in "biuf":
            plain[name] = plain[name].map(plain_cell)
    return plain.to_csv(index=False, lineterminator="\n")


def plot(table: pd.DataFrame, objectives: Sequence[str], folder: Path) -> None:
    """Write ``pareto.svg`` and ``pareto.png``: the first two objectives, the front in colour.

    Nothing is written where there are not two objectives, no point ran, or matplotlib is not installed.
    """
    good = table[table["error"] == ""]
    if len(objectives) < 2 or good.empty:
        return
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError:
        return
    x, y = objectives[:2]
    front = good[good["pareto"]].sort_values([x, y])
    with mpl.rc_context({"svg.hashsalt": "archsim", "font.size": 9}):
        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.subplots()
        axes.scatter(good[x], good[y], s=18, color="0.7", label="points")
        axes.plot(front[x], front[y], "o-", markersize=5, linewidth=1, color="tab:blue", label="Pareto front")
        for name, scale in ((x, axes.set_xscale), (y, axes.set_yscale)):
            if good[name].min() > 0 and good[name].max() > 20 * good[name].min():
                scale("log")
        axes.set(xlabel=x, ylabel=y)
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
        for kind, how in (("svg", {"metadata": {"Date": None}}), ("png", {"dpi": 150})):
            drawn = io.BytesIO()
            figure.savefig(drawn, format=kind, **how)
            write_bytes(folder / f"pareto.{kind}", drawn.getvalue())
