"""Pipelines in space: a strip of stages, each as wide as the units it has, filled by its time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from archsim.report.pictures import quantity

_WIDTH, _HEIGHT = 1000, 72
_MOST = 12


def picture(pipelines: Sequence[Mapping[str, Any]]) -> str:
    """A strip for each pipeline, the first ones; "" where there are none.

    Parameters
    ----------
    pipelines: as in ``result.json``.
    """
    drawn = [
        f"<h3>{escape(one['name'])} <small>{_said(one['stages'])}</small></h3>{_strip(one)}"
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


def _strip(pipeline: Mapping[str, Any]) -> str:
    stages = pipeline["stages"]
    total = sum(stage["units"] for stage in stages)
    slowest = max(stage["time_s"] for stage in stages) or 1.0
    boxes, at = [], 0.0
    for number, stage in enumerate(stages):
        width, height = _WIDTH * stage["units"] / total, _HEIGHT * stage["time_s"] / slowest
        tip = (
            f"{stage['name']}\n{stage['units']:,} computing units, {stage['buffers']:,} memory units, "
            f"{quantity(stage['time_s'], 's')}"
        )
        boxes.append(
            f'<rect x="{at:.2f}" y="0" width="{width:.2f}" height="{_HEIGHT}" style="fill:none;stroke:currentColor;'
            f'stroke-opacity:.35" vector-effect="non-scaling-stroke"/>'
            f'<rect class="k{number % 9}" x="{at:.2f}" y="{_HEIGHT - height:.2f}" width="{width:.2f}" '
            f'height="{height:.2f}" style="fill:var(--c)" data-tip="{escape(tip)}"/>'
        )
        at += width
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="Stages of {escape(pipeline["name"])}" style="display:block;width:100%;height:{_HEIGHT}px">'
        f"{''.join(boxes)}</svg>"
    )
