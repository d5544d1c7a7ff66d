"""What the results of a benchmark do not tell and its published scripts do: the load, and servers' arguments."""

from __future__ import annotations

from functools import lru_cache

from archsim.config import load_spec, shipped
from archsim.serving.cases.case import Case
from archsim.serving.cases.recipes import Recipe, alike, recipes
from archsim.spec import Count, Share, Spec


class LoadSpec(Spec):
    """How requests come."""

    rounds: Count = 10
    """requests of each place, one after the other"""
    shortest: Share = 1.0
    """lengths are drawn evenly from this share of the longest on"""


class RuleSpec(Spec):
    """Columns of some rows."""

    when: dict[str, str | int | list[str]]
    """column: its value, or one of several; with ``least_`` or ``most_`` before its name a bound"""
    told: dict[str, str | int | float]
    """column: what it says where the row does not"""


class BenchmarkSpec(Spec):
    """A benchmark."""

    name: str
    """what it is called"""
    source: str
    """where its scripts are"""
    lengths: tuple[int, ...] = ()
    """by which its rows are known: prompts and answers of these many tokens, any when empty"""
    columns: tuple[str, ...] = ()
    """by which its rows are known: what they have"""
    load: LoadSpec = LoadSpec()
    """how requests come"""
    recipes: str = ""
    """table of how prompts and answers were served apart, a file beside this one"""
    rules: tuple[RuleSpec, ...] = ()
    """what rows do not tell; a later one goes before an earlier one"""

    def knows(self, case: Case) -> bool:
        """Whether a row is one of its."""
        lengths = {str(tokens) for tokens in self.lengths}
        mine = not lengths or {_plain(case.get("isl")), _plain(case.get("osl"))} <= lengths
        return mine and all(column in case for column in self.columns)


def completed(case: Case) -> tuple[Case, LoadSpec]:
    """A row with what its benchmark says of it, and the load; of no known benchmark, the row as it is.

    Its ``backend``, which may stand under ``engine`` too, is a family of engines; a benchmark says which release.
    """
    if case.get("engine") in shipped("engines") and case.get("backend") in (None, "", case["engine"]):
        case = {name: value for name, value in case.items() if name != "engine"} | {"backend": case["engine"]}
    known = _benchmark_of(case)
    if known is None:
        return case, LoadSpec()
    told: dict[str, str | int | float] = {}
    for rule in known.rules:
        if all(_holds(case, column, value) for column, value in rule.when.items()):
            told |= rule.told
    return told | {column: value for column, value in case.items() if value not in ("", None)}, known.load


def recipes_of(case: Case, concurrency: int) -> list[Recipe]:
    """How its benchmark served such a row with prompts and answers apart, as far as the row tells."""
    known = _benchmark_of(case)
    return alike(case, recipes(known.recipes), concurrency) if known is not None and known.recipes else []


def _benchmark_of(case: Case) -> BenchmarkSpec | None:
    known = sorted(map(_benchmark, shipped("benchmarks")), key=lambda known: not known.lengths)
    return next((one for one in known if one.knows(case)), None)  # the more particular ones first


@lru_cache(maxsize=16)
def _benchmark(name: str) -> BenchmarkSpec:
    return load_spec(name, BenchmarkSpec, category="benchmarks")


def _plain(value: object) -> str:
    return "" if value is None else str(value).removesuffix(".0")


def _holds(case: Case, column: str, value: str | int | list[str]) -> bool:
    bound, _, name = column.partition("_")
    if bound in ("least", "most"):
        told = _plain(case.get(name))
        return told.isdigit() and (int(told) >= int(str(value)) if bound == "least" else int(told) <= int(str(value)))
    values = value if isinstance(value, list) else [str(value)]
    return str(case.get(column, "")) in values or _plain(case.get(column)) in values
