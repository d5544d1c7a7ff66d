"""Steps of training that have a name: questions in files, whose columns an option may change."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from typing import Any

from archsim.config import load_spec, shipped
from archsim.errors import InputError, Problem, nearest, shortened
from archsim.spec import Spec


class StepSpec(Spec):
    """A step of training."""

    name: str
    """what is trained on what"""
    source: str
    """where it was published, or 'assumed: ...'"""
    notes: str = ""
    """what a reader should know"""
    columns: dict[str, str | int | float]
    """what is asked, as the columns of ``archsim train --cases``"""


@functools.lru_cache(maxsize=64)
def _step(name: str) -> StepSpec:
    if not name.endswith((".yaml", ".yml")) and name not in shipped("steps"):
        raise InputError([Problem(f"no step is called '{shortened(name)}': {nearest(name, shipped('steps'))}", "step")])
    return load_spec(name, StepSpec, category="steps")


def filled(case: Mapping[str, Any], known: Collection[str]) -> Mapping[str, Any]:
    """A case with what its step says where it says nothing itself.

    Parameters
    ----------
    known: the columns that there are.

    Raises
    ------
    InputError: no such step, or it speaks of no such column.
    """
    name = str(case.get("step", "")).strip()
    if not name:
        return case
    columns = _step(name).columns
    if unknown := [column for column in columns if column not in known or column == "step"]:
        raise InputError(
            [
                Problem(f"no column is called '{one}': {nearest(one, known)}", f"{name}: columns.{one}")
                for one in unknown
            ]
        )
    return {**{column: str(value) for column, value in columns.items()}, **{k: v for k, v in case.items() if v != ""}}
