"""What tables call chips, systems and models: shipped names, files, and names that others use."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from archsim.config import load_spec, shipped
from archsim.errors import InputError, Problem, nearest, shortened
from archsim.spec import Spec

_FILES = (".yaml", ".yml", ".json")


class NamesSpec(Spec):
    """Names that others use."""

    name: str
    source: str
    chips: dict[str, str]
    """theirs to a shipped chip"""
    systems: dict[str, str]
    """theirs to a shipped system"""
    machines: dict[str, str]
    """shipped chip to the system around it where nothing else is said"""
    models: dict[str, str]
    """theirs to a shipped model"""


@functools.cache
def names() -> NamesSpec:
    """Those that ship."""
    return load_spec("training", NamesSpec, category="names")


def _plain(text: str) -> str:
    return "".join(c for c in text.lower() if c.isalnum())


@functools.cache
def _table(category: str) -> Mapping[str, str]:
    ours = {_plain(name): name for name in (*shipped(category), *(shipped("hybrids") if category == "models" else ()))}
    theirs: Mapping[str, str] = getattr(names(), category)
    return {**ours, **{_plain(name): known for name, known in theirs.items()}}


def known(category: str, text: str, column: str) -> str:
    """The shipped name or the file that a text means.

    Parameters
    ----------
    category: chips, systems or models. column: where it stands.

    Raises
    ------
    InputError: nothing is called so.
    """
    if text.endswith(_FILES) or text in shipped(category):  # a name of ours goes before what others mean by it
        return text
    table, plain = _table(category), _plain(text)
    if plain in table:
        return table[plain]
    what = category.removesuffix("s")
    raise InputError(
        [Problem(f"no {what} is called '{shortened(text)}': {nearest(text, shipped(category))}", path=column)]
    )
