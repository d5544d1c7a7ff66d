"""Plain data that knows where each value of it was written."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError

from archsim.errors import InputError, Problem

MOST_LEVELS = 64
Keys: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True)
class Origin:
    """Where a value was written: a file with line and column (1-based), or ``override`` or ``argument``."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file

    def problem(self, message: str, path: str = "") -> Problem:
        """A problem at this place."""
        return Problem(message, self.file, self.line, self.column, path)

    def error(self, message: str, path: str = "") -> InputError:
        """An error at this place."""
        return InputError([self.problem(message, path)])


@dataclass(frozen=True)
class Tree:
    """Plain data that knows where it was written.

    Attributes
    ----------
    value: a scalar, or a dict or list of trees.
    place: of the key that holds this value; of the value itself where it has no key.
    """

    value: dict[str, Tree] | list[Tree] | str | int | float | bool | None
    place: Origin

    def data(self) -> Any:
        """The plain data."""
        if isinstance(self.value, dict):
            return {key: child.data() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.data() for child in self.value]
        return self.value

    def child(self, key: str | int) -> Tree | None:
        """The value under a key or an index, None where there is none."""
        if isinstance(self.value, dict):
            return self.value.get(str(key))
        if isinstance(self.value, list) and str(key).isdecimal() and int(key) < len(self.value):
            return self.value[int(key)]
        return None

    def origin(self, path: str) -> Origin:
        """Where the value at a path such as ``chip.memories.hbm`` was written, else what holds it."""
        node = self
        for key in path.split(".") if path else ():
            child = node.child(key)
            if child is None:
                break
            node = child
        return node.place

    def leaves(self, path: str = "") -> Iterator[tuple[str, Tree]]:
        """Path and tree of each scalar, in the order written."""
        if isinstance(self.value, dict | list):
            items = self.value.items() if isinstance(self.value, dict) else enumerate(self.value)
            for key, child in items:
                yield from child.leaves(f"{path}.{key}" if path else str(key))
        else:
            yield path, self


Source: TypeAlias = str | os.PathLike[str] | Mapping[str, Any] | Tree
"""What a config is read from: a file, a shipped name, plain data, or what was read before."""


def merge(base: Tree, over: Tree) -> Tree:
    """``over`` laid over ``base``: mappings key by key, anything else replaced, a null takes the key away.

    A part of another ``kind`` replaces the whole part: the keys of one kind mean nothing to another.
    """
    if not isinstance(base.value, dict) or not isinstance(over.value, dict):
        return over
    if "kind" in base.value and "kind" in over.value and base.value["kind"].value != over.value["kind"].value:
        return over
    value = dict(base.value)
    for key, child in over.value.items():
        if key not in value:
            value[key] = child
        elif child.value is None:
            del value[key]
        else:
            value[key] = merge(value[key], child)
    return Tree(value, over.place)


def dump(spec: BaseModel) -> dict[str, Any]:
    """The resolved config as plain data, defaults and all; building it again gives an equal spec."""
    try:
        return spec.model_dump(mode="json", by_alias=True, round_trip=True)
    except PydanticSerializationError as error:
        if "KeyboardInterrupt" in str(error):  # pydantic takes a Ctrl-C for a fault of the serialiser
            raise KeyboardInterrupt from None
        raise
