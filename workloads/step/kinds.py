"""Kinds of layers that a model is made of, in order; and models of mixed layers."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

from pydantic import model_validator

from archsim.spec import Count, Spec
from archsim.workloads.model import ModelSpec


class Kind(NamedTuple):
    """What a layer does: a mixer of tokens, then a function of each; either may be missing. window: of attention."""

    mixer: Literal["attention", "state_space", ""]
    half: Literal["dense", "experts", ""]
    window: int | None = None


Counts: TypeAlias = tuple[tuple[Kind, int], ...]
"""Layers of each kind."""


class StateSpaceSpec(Spec):
    """A Mamba-2 layer (arXiv 2405.21060)."""

    heads: Count
    head_dim: Count
    state: Count
    """elements of a state for each element of a head"""
    groups: Count
    """of heads that share their inputs' and outputs' projections"""
    convolution: Count = 4
    """tokens that the convolution before it sees"""
    chunk: Count = 128
    """tokens that are computed at once by products"""

    @property
    def inner(self) -> int:
        """Width of all heads."""
        return self.heads * self.head_dim


class HybridSpec(ModelSpec):
    """A model whose layers differ: attention, state spaces and experts each a layer of its own (Nemotron-H)."""

    pattern: str
    """a letter a layer: * attention, M state space, E experts, - a dense MLP"""
    state_space: StateSpaceSpec | None = None
    """of its M layers"""
    expert_width: Count | None = None
    """width at which experts work, where tokens are projected for them; hidden when absent"""

    @model_validator(mode="after")
    def _check(self) -> HybridSpec:
        # In place of the checks of transformers: experts here are plain MLPs, positions may be missing.
        if set(self.pattern) - set(_LETTERS) or len(self.pattern) != self.layers:
            raise ValueError(f"'pattern' has a letter of {', '.join(_LETTERS)} for each of the {self.layers} layers")
        if ("M" in self.pattern) != (self.state_space is not None) or ("E" in self.pattern) != (self.moe is not None):
            raise ValueError("'state_space' goes with M layers, 'moe' with E layers")
        return self


_LETTERS = {
    "*": Kind("attention", ""),
    "M": Kind("state_space", ""),
    "E": Kind("", "experts"),
    "-": Kind("", "dense"),
}


def kinds_of(model: ModelSpec) -> list[Kind]:
    """The kind of each layer."""
    if isinstance(model, HybridSpec):
        return [_LETTERS[letter] for letter in model.pattern]
    windows = model.windows
    return [
        Kind("attention", "dense" if i < model.dense_layers else "experts", windows[i % len(windows)])
        for i in range(model.layers)
    ]


def counted(kinds: list[Kind]) -> Counts:
    """How many there are of each, in the order of the first ones."""
    return tuple((kind, kinds.count(kind)) for kind in dict.fromkeys(kinds))
