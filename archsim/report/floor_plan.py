"""Pipelines in space: the mesh with the units of each stage, and the times of the stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from archsim.report.pictures import quantity

_MOST = 12
_CELL, _INSET = 10, 0.6
_LIGHTEST = 0.25
"""opacity of a stage that takes no time beside the slowest"""


def picture(pipelines: Sequence[Mapping[str, Any]]) -> str:
    """A floor plan and stage times for each pipeline, the first ones; "" where there are none.

    Parameters
    ----------
    pipelines: as in ``result.json``.
    """
    drawn = [
        f"<h3>{escape(one['name'])} <small>{_said(one['stages'])}</small></h3>"
        f'<div class="floor">{_plan(one)}{_times(one)}</div>'
        for one in pipelines[:_MOST]
    ]
    more = len(pipelines) - len(drawn)
    return "".join(drawn) + (f"<p><small>{more:,} of them are not drawn</small></p>" if more > 0 else "")


def _said(stages: Sequence[Mapping[str, Any]]) -> str:
    units, buffers = (sum(stage[key] for stage in stages) for key in ("units", "buffers"))
    slowest = max(stages, key=lambda stage: stage["time_s"])
    return (
        f"{len(stages)} stages on {units:,} computing and {buffers:,} memory units; slowest {escape(slowest['name'])}, "
        f"{quantity(slowest['time_s'], 's')}"
    )


def _tip(stage: Mapping[str, Any]) -> str:
    return escape(
        f"{stage['name']}\n{stage['units']:,} computing units, {stage['buffers']:,} memory units, "
        f"{quantity(stage['time_s'], 's')}"
    )


def _plan(pipeline: Mapping[str, Any]) -> str:
    """The mesh; the longer a stage takes, the darker are its units."""
    stages = pipeline["stages"]
    places = [place for stage in stages for place in stage.get("places", ())]
    if not places:
        return ""
    rows, columns = (1 + max(place[axis] for place in places) for axis in (0, 1))
    slowest = max(stage["time_s"] for stage in stages) or 1.0
    groups = []
    for number, stage in enumerate(stages):
        opacity = _LIGHTEST + (1 - _LIGHTEST) * stage["time_s"] / slowest
        cells = "".join(
            f"M{column * _CELL + _INSET} {row * _CELL + _INSET}h{_CELL - 2 * _INSET}v{_CELL - 2 * _INSET}"
            f"h{2 * _INSET - _CELL}z"
            for row, column in stage["places"]
        )
        groups.append(
            f'<path class="k{number % 9}" d="{cells}" style="fill:var(--c);fill-opacity:{opacity:.2f}" '
            f'data-tip="{_tip(stage)}"/>'
        )
    return (
        f'<svg viewBox="0 0 {columns * _CELL} {rows * _CELL}" role="img" aria-label="Floor plan of '
        f'{escape(pipeline["name"])}" style="flex:none;width:min(100%,{columns * _CELL}px)">{"".join(groups)}</svg>'
    )


def _times(pipeline: Mapping[str, Any]) -> str:
    """A bar for the time of each stage."""
    stages = pipeline["stages"]
    slowest = max(stage["time_s"] for stage in stages) or 1.0
    rows = "".join(
        f'<tr data-tip="{_tip(stage)}"><td><svg viewBox="0 0 10 10" class="k{number % 9}" aria-hidden="true">'
        f'<rect width="10" height="10" style="fill:var(--c)"/></svg> {escape(stage["name"])}</td>'
        f"<td>{stage['units']:,}</td><td>{stage['buffers']:,}</td><td>{quantity(stage['time_s'], 's')}</td>"
        f'<td class="k{number % 9}"><i style="width:{100 * stage["time_s"] / slowest:.1f}%;background:var(--c)"></i>'
        "</td></tr>"
        for number, stage in enumerate(stages)
    )
    heads = "".join(f"<th>{head}</th>" for head in ("stage", "computing", "memory", "time", ""))
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"
