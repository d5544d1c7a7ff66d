"""Which expert gets how many tokens.

Every token visits ``top_k`` distinct experts, so the counts of a layer sum to ``tokens * top_k`` and none is
above ``tokens``; both hold exactly, for every kind of routing, as long as no capacity drops tokens.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from archsim.config import File
from archsim.errors import InputError, Problem, nearest
from archsim.files import read_rows
from archsim.spec import Spec
from archsim.workloads.model import MixtureSpec
from archsim.workloads.recorded import recorded_file

Shares: TypeAlias = npt.NDArray[np.float64]


class RoutingSpec(Spec):
    """How tokens are spread over the experts of a layer."""

    kind: Literal["balanced", "uniform", "zipf", "dirichlet", "table"] = "uniform"
    """balanced: as evenly as whole tokens go; uniform: every expert is equally likely; zipf: the n-th most
    popular expert has weight n^-skew; dirichlet: weights from a symmetric Dirichlet with concentration skew;
    table: recorded counts"""
    skew: Annotated[float, Field(ge=0, le=1000)] = 1.0
    """exponent of zipf, concentration of dirichlet (the smaller the more uneven)"""
    sample: bool = True
    """true: counts are a seeded draw by these weights; false: the expected counts, rounded"""
    capacity_factor: Annotated[float, Field(gt=0, le=1000)] | None = None
    """an expert takes so many times its even share of the tokens and drops the others; all are taken when absent"""
    path: Annotated[str, File("traces")] | None = None
    """CSV of recorded counts with columns model, kind, domain, layer, expert, count; a file, or a shipped trace"""
    model: str | None = None
    """rows of the table to take: value of its column model; may be left out where there is one"""
    counts: str = "expert_counts"
    """rows of the table to take: value of its column kind"""
    domain: str | None = None
    """rows of the table to take: value of its column domain; may be left out where there is one"""

    @model_validator(mode="after")
    def _check(self) -> RoutingSpec:
        if (self.kind == "table") != (self.path is not None):
            raise ValueError("kind: table and path go together")
        if self.kind == "dirichlet" and self.skew == 0:
            raise ValueError("the concentration of a dirichlet is above zero")
        return self


@lru_cache(maxsize=8)
def _table(path: str, changed_ns: int) -> dict[tuple[str, str, str], dict[int, dict[int, int]]]:
    """Recorded counts: (model, kind, domain) to layer to expert to count; a changed file is read again."""
    table: dict[tuple[str, str, str], dict[int, dict[int, int]]] = {}
    for line, row in read_rows(Path(path)):
        try:
            key = row["model"], row["kind"], row["domain"]
            layer, expert, count = (row[name] for name in ("layer", "expert", "count"))
        except KeyError as error:
            raise InputError(
                [Problem(f"has no column {error}: it needs model, kind, domain, layer, expert, count", path, 1, 1)]
            ) from None
        if not all(text.isdecimal() and text.isascii() and len(text) <= 15 for text in (layer, expert, count)):
            raise InputError([Problem("layer, expert and count are whole numbers, not negative", path, line, 1)])
        table.setdefault(key, {}).setdefault(int(layer), {})[int(expert)] = int(count)
    if not table:
        raise InputError([Problem("holds no counts", path)])
    return table


def recorded_shares(spec: RoutingSpec, experts: int) -> tuple[Shares, ...]:
    """The recorded weights of each recorded layer, experts that were never visited at zero.

    Raises
    ------
    InputError: the rows that are asked for are not there or not unique, or are of another number of experts.
    """
    path = str(recorded_file(spec.path or ""))
    try:
        table = _table(path, Path(path).stat().st_mtime_ns)
    except OSError as error:
        raise InputError([Problem(f"cannot be read: {error}", path)]) from None

    def choose(wanted: str | None, present: set[str], column: str) -> str:
        if wanted is None:
            if len(present) > 1:
                raise InputError(
                    [Problem(f"holds several of '{column}': say which; known: " + ", ".join(sorted(present)), path)]
                )
            return next(iter(present))
        if wanted not in present:
            raise InputError([Problem(f"no {column} is called '{wanted}': {nearest(wanted, present)}", path)])
        return wanted

    model = choose(spec.model, {m for m, _, _ in table}, "model")
    kind = choose(spec.counts, {k for m, k, _ in table if m == model}, "kind")
    domain = choose(spec.domain, {d for m, k, d in table if (m, k) == (model, kind)}, "domain")
    layers = table[model, kind, domain]
    most = max(max(counts) for counts in layers.values()) + 1
    if most > experts:
        raise InputError([Problem(f"has {most} experts of '{model}', the model has {experts}", path)])
    shares = []
    for layer in sorted(layers):
        counts = np.array([layers[layer].get(expert, 0) for expert in range(experts)], dtype=np.float64)
        if not counts.sum():
            raise InputError([Problem(f"layer {layer} of '{model}' has no tokens", path)])
        shares.append(counts / counts.sum())
    return tuple(shares)


def expected_counts(shares: Shares, tokens: int, top_k: int) -> npt.NDArray[np.int64]:
    """``tokens * top_k * shares`` in whole tokens: rounded by largest remainder, none above ``tokens``.

    Of equal remainders the lower expert is rounded up.
    """
    exact = np.zeros(len(shares))
    open_ = np.ones(len(shares), dtype=bool)
    left = float(tokens * top_k)
    while True:  # what an expert cannot take goes to the others, in proportion
        weights = np.where(open_, shares, 0.0)
        if weights.sum() <= 0:
            weights = open_.astype(np.float64)
        exact = np.where(open_, left * weights / weights.sum(), exact)
        full = open_ & (exact >= tokens)
        if not full.any() or full.all():
            break
        exact[full] = tokens
        open_ &= ~full
        left = float(tokens * top_k - tokens * int((~open_).sum()))
        if left <= 0:
            exact[open_] = 0.0
            break
    exact = np.minimum(exact, tokens)
    counts = np.floor(exact).astype(np.int64)
    order = np.argsort(-(exact - counts), kind="stable")
    missing = tokens * top_k - int(counts.sum())
    while missing > 0:  # a second round only where rounding errors ate a whole token
        for expert in order:
            if missing and counts[expert] < tokens:
                counts[expert] += 1
                missing -= 1
    return counts


def drawn_counts(shares: Shares, tokens: int, top_k: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """``tokens * top_k`` visits drawn by ``shares``; a visit beyond an expert's ``tokens`` is drawn again."""
    counts = np.zeros(len(shares), dtype=np.int64)
    left = tokens * top_k
    while left:
        weights = np.where(counts < tokens, shares, 0.0)
        if weights.sum() <= 0:  # fewer experts with a weight than a token visits
            weights = (counts < tokens).astype(np.float64)
        counts += rng.multinomial(left, weights / weights.sum())
        np.minimum(counts, tokens, out=counts)
        left = tokens * top_k - int(counts.sum())
    return counts


def capacity(factor: float, tokens: int, top_k: int, experts: int) -> int:
    """Tokens that an expert takes at most: ``factor`` times the even share, rounded up."""
    return math.ceil(Fraction(str(factor)) * tokens * top_k / experts)


class Router:
    """Expert loads of every layer of a model.

    Parameters
    ----------
    spec: how tokens are spread.
    moe: the experts of a layer.
    layers: layers of experts.
    seed: of all draws; equal seeds give equal loads.
    """

    def __init__(self, spec: RoutingSpec, moe: MixtureSpec, layers: int, seed: int) -> None:
        self.spec, self.moe, self.layers, self.seed = spec, moe, layers, seed
        self._recorded = recorded_shares(spec, moe.experts) if spec.kind == "table" else ()

    def shares(self, layer: int) -> Shares:
        """Weights of the experts of a layer, sum 1; the same in every phase."""
        experts, kind = self.moe.experts, self.spec.kind
        if kind == "table":
            return self._recorded[layer * len(self._recorded) // self.layers]
        if kind in ("balanced", "uniform"):
            return np.full(experts, 1.0 / experts)
        rng = np.random.default_rng([self.seed, layer, 0])
        if kind == "zipf":
            weights = rng.permutation(np.arange(1, experts + 1, dtype=np.float64) ** -self.spec.skew)
            return np.asarray(weights / weights.sum(), dtype=np.float64)
        weights = rng.dirichlet(np.full(experts, self.spec.skew))
        if not np.isfinite(weights).all() or weights.sum() <= 0:  # a concentration that underflows
            weights = np.eye(experts)[rng.integers(experts)]
        return np.asarray(weights / weights.sum(), dtype=np.float64)

    @property
    def varies(self) -> bool:
        """True when layers or phases differ in their draw."""
        return self.spec.kind != "balanced" and self.spec.sample

    def counts(self, layer: int, tokens: int, phase: int) -> tuple[int, ...]:
        """Tokens that each expert of a layer takes when the group has ``tokens`` tokens."""
        shares = self.shares(layer)
        if self.varies:
            rng = np.random.default_rng([self.seed, layer, 1 + phase])
            counts = drawn_counts(shares, tokens, self.moe.experts_per_token, rng)
        else:
            counts = expected_counts(shares, tokens, self.moe.experts_per_token)
        factor = self.spec.capacity_factor
        if factor is not None:
            counts = np.minimum(counts, capacity(factor, tokens, self.moe.experts_per_token, self.moe.experts))
        return tuple(counts.tolist())
