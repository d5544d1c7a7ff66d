"""Names to classes, through entry points: ours and everybody's by the same door, loaded when first asked for.

A package adds a part with three lines of its pyproject.toml::

    [project.entry-points."archsim.components"]
    my_part = "my_package.my_module:MyPart"
"""

from __future__ import annotations

import functools
import importlib.metadata
from typing import Any

from archsim.errors import InputError, nearest


@functools.cache
def _entries(group: str) -> dict[str, importlib.metadata.EntryPoint]:
    return {entry.name: entry for entry in importlib.metadata.entry_points(group=group)}


def names(group: str) -> list[str]:
    """All registered names of a group (such as ``archsim.components``), sorted; imports nothing."""
    return sorted(_entries(group))


def places(group: str) -> list[str]:
    """Where the classes of a group are, as ``package.module:Class``; imports nothing."""
    return sorted(entry.value for entry in _entries(group).values())


def known(group: str) -> str:
    """A sentence that lists the names of a group."""
    return "known: " + ", ".join(names(group))


@functools.cache
def find(group: str, name: str) -> Any:
    """The class registered as ``name``.

    Raises
    ------
    InputError: nothing has this name (the nearest name is told), or its package does not import.
    """
    entry = _entries(group).get(name)
    if entry is None:
        what = group.rpartition(".")[2].replace("_", " ")
        what = f"{what[:-3]}y" if what.endswith("ies") else what.rstrip("s")
        raise InputError(f"no {what} is called '{name}': {nearest(name, names(group))}")
    try:
        return entry.load()
    except (ImportError, AttributeError) as error:
        raise InputError(f"'{name}' is registered as {entry.value}, which does not load: {error}") from error
