"""What a benchmark published of how it served prompts and answers apart: workers, their cuts and places, drafts.

A row of results tells some of it. Its cut of prompts' workers and the chips of answers' can be believed; whether
attention has replicas cannot where it does not tell the workers, nor how experts are cut among those of answers (all
such rows of InferenceX repeat what prompts' workers have).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from archsim.config.names import CONFIGS
from archsim.files import read_rows
from archsim.serving.cases.case import Case

Recipe = Mapping[str, str]
"""Columns of a row, with all ``concurrency`` that it was run with; empty ones say nothing."""

_WHICH = ("backend", "precision", "isl", "osl")
_WORKERS = ("prefill_num_workers", "decode_num_workers")
_CUTS = tuple(
    f"{part}_{cut}_size" for part in ("prefill", "decode") for cut in ("tp", "attention_dp", "moe_tp", "moe_ep")
)


@lru_cache(maxsize=4)
def recipes(name: str) -> tuple[Recipe, ...]:
    """Those of a shipped table."""
    return tuple(row for _, row in read_rows(CONFIGS / "benchmarks" / name))


def alike(case: Case, known: Sequence[Recipe], concurrency: int) -> list[Recipe]:
    """Recipes that a row does not tell apart, of those that are known; none where it is none of theirs.

    A row that tells its workers is one without drafts, where there is one: its source describes those alone.
    """
    system = str(case.get("system") or "").partition("_")[0]
    found = [
        recipe
        for recipe in known
        if recipe["system"] == system
        and all(recipe[name] == _plain(case.get(name)) for name in _WHICH)
        and str(concurrency) in recipe["concurrency"].split()
    ]
    asked = [_chips("prefill"), _chips("decode"), _number("prefill_moe_ep_size")]
    if tells_workers(case):
        asked += map(_number, (*_WORKERS, *_CUTS))
    for figure in asked:
        found = [recipe for recipe in found if figure(recipe) == figure(case)] or found
    if tells_workers(case):
        found = [recipe for recipe in found if not recipe["drafts"]] or found
    return found


def tells_workers(case: Case) -> bool:
    """Whether a row tells how many workers there are."""
    return all(case.get(name) not in (None, "") for name in _WORKERS)


def filled(case: Case, recipe: Recipe) -> Case:
    """A row with what a recipe says where it does not; of cuts the recipe is believed."""
    own = {name: value for name, value in case.items() if value not in ("", None) and name not in _CUTS}
    which = ("system", "concurrency", "recipe")
    return {name: text for name, text in recipe.items() if text and name not in which} | own


def _plain(value: object) -> str:
    return "" if value is None else str(value).removesuffix(".0")


def _number(column: str) -> Callable[[Case], int]:
    return lambda row: int(_plain(row.get(column)) or 0)


def _chips(part: str) -> Callable[[Case], int]:
    """Of a worker."""
    sizes = _number(f"{part}_tp_size"), _number(f"{part}_attention_dp_size")
    return lambda row: max(sizes[0](row), 1) * max(sizes[1](row), 1)
