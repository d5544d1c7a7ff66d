"""What a sweep says, and the points it makes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from archsim.config import Named, Source, build, load_tree, override
from archsim.errors import InputError, nearest
from archsim.spec import Spec
from archsim.sweeps.identity import keys
from archsim.sweeps.work import Record

if TYPE_CHECKING:
    from archsim.run_spec import RunSpec

_MOST_POINTS = 1_000_000
_OBJECTIVES: dict[str, Literal["min", "max"]] = {"time_s": "min", "energy_j.total": "min", "area_mm2.total": "min"}


class SweepSpec(Spec):
    """A sweep: a base run and what is varied."""

    name: str = "sweep"
    """what it is called"""
    base: Annotated[dict[str, Any], Named("runs")]
    """the run that is varied: a shipped name, a file, or in full"""
    grid: dict[str, tuple[Any, ...]] = Field(default_factory=dict)
    """path to values; every combination is a point"""
    list: tuple[dict[str, Any], ...] = ()
    """path to value, point by point; each is combined with the whole grid"""
    objectives: dict[str, Literal["min", "max"]] = Field(default=_OBJECTIVES)
    """figures of the result to make small or large; a list makes all of them small"""

    @field_validator("objectives", mode="before")
    @classmethod
    def _small(cls, value: Any) -> Any:
        listed = isinstance(value, Sequence) and not isinstance(value, str)
        plain = listed and all(isinstance(name, str) for name in value)
        return dict.fromkeys(value, "min") if plain else value

    @model_validator(mode="after")
    def _some(self) -> SweepSpec:
        for path, values in self.grid.items():
            if not values:
                raise ValueError(f"grid: '{path}' has no values")
            if any(path in point for point in self.list):
                raise ValueError(f"'{path}' is varied by the grid and by the list")
        if not self.objectives:
            raise ValueError("objectives: at least one is needed")
        size = math.prod(len(values) for values in self.grid.values()) * max(len(self.list), 1)
        if size > _MOST_POINTS:
            raise ValueError(f"{size:,} points are more than {_MOST_POINTS:,}")
        return self

    def points(self) -> Iterator[dict[str, Any]]:
        """The overrides of each point, in order."""
        for entry in self.list or ({},):
            for values in itertools.product(*self.grid.values()):
                yield {**entry, **dict(zip(self.grid, values, strict=True))}

    def check(self, record: Record) -> None:
        """Raise an error if a result lacks an objective."""
        for objective in self.objectives:
            if not record.error and not isinstance(record.figure(objective), int | float):
                raise InputError(
                    f"objectives: a result has no figure '{objective}': {nearest(objective, record.figures())}"
                )


@dataclass(frozen=True)
class Point:
    """One point: what sets it apart, its key, and its run, or what is wrong with it."""

    values: dict[str, Any]
    key: str
    run: RunSpec | None
    problem: str = ""


def points_of(source: Source, overrides: Mapping[str, Any]) -> tuple[SweepSpec, list[Point]]:
    """Read a sweep and resolve all its points.

    Overrides that begin with ``base.`` are overrides of the run, so they reach through its names.
    """
    from archsim.run_spec import RunSpec

    of_run = {path.removeprefix("base."): value for path, value in overrides.items() if path[:5] == "base."}
    of_sweep = {path: value for path, value in overrides.items() if path[:5] != "base."}
    tree = load_tree(source, of_sweep, SweepSpec, "sweeps")
    spec = build(tree, SweepSpec)
    base = tree.child("base")
    if base is None:
        raise InputError("a sweep has a base")
    base = override(base, of_run, RunSpec)
    points, key = [], keys()
    for i, values in enumerate(spec.points()):
        try:
            run = build(override(base, values, RunSpec), RunSpec)
        except InputError as error:
            points.append(Point(values, f"point {i}", None, str(error)))
        else:
            points.append(Point(values, key(run), run))
    return spec, points
