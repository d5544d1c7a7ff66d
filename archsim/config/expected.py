"""What a spec expects at each place of a tree: names of things, files, keys, defaults."""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from archsim import registry
from archsim.config.reader import tree_of
from archsim.config.tree import Origin, Tree
from archsim.errors import InputError


@dataclass(frozen=True)
class Named:
    """Marks a field that may be given by the name of a shipped config, or by a file::

    chip: Annotated[ChipSpec, Named("chips")]
    """

    category: str

    def __get_pydantic_json_schema__(self, schema: Any, handler: Callable[[Any], Any]) -> dict[str, Any]:
        name = {"type": "string", "description": f"a shipped name ({self.category}) or a file"}
        return {"anyOf": [name, handler(schema)]}


@dataclass(frozen=True)
class File:
    """Marks a field that names a file which is read when it is used, relative to the file that names it::

    path: Annotated[str, File("traces")]

    What ships in the category's folder may be named without one.
    """

    category: str


_WORDS = (int, float, str, bool, types.NoneType)


class Expected:
    """What a spec allows at one place of a tree, read off its annotations."""

    def __init__(self, annotation: Any, metadata: Sequence[Any] = ()) -> None:
        self.arms: list[Any] = []
        self.category = ""
        self.file: File | None = None
        self._add(annotation, metadata)

    def _add(self, annotation: Any, metadata: Sequence[Any]) -> None:
        for mark in metadata:
            if isinstance(mark, Named):
                self.category = mark.category
            elif isinstance(mark, File):
                self.file = mark
        origin = typing.get_origin(annotation)
        if origin is typing.Annotated:
            self._add(annotation.__origin__, annotation.__metadata__)
        elif origin in (typing.Union, types.UnionType):
            for arm in typing.get_args(annotation):
                self._add(arm, ())
        else:
            self.arms.append(annotation)

    @functools.cached_property
    def plain(self) -> bool:
        """True where no name, file or part can stand, at any depth."""
        return not self.category and self.file is None and bool(self.arms) and all(map(_plain, self.arms))

    def specs(self, tree: Tree) -> list[type[BaseModel]]:
        """The specs that a mapping here may be; a part's kind decides among them."""
        found = []
        kind = tree.child("kind")
        for arm in self.arms:
            if not (isinstance(arm, type) and issubclass(arm, BaseModel)):
                continue
            group = vars(arm).get("group")
            tag = arm.model_fields.get("kind")
            tags = typing.get_args(tag.annotation) if tag and tag.annotation is not str else ()
            if group and kind is not None and isinstance(kind.value, str):
                try:
                    found.append(registry.find(group, kind.value).Spec)
                except InputError:  # told when the part is built
                    found.append(arm)
            elif kind is None or not tags or kind.value in tags:
                found.append(arm)
        return found

    def unknown_kind(self, tree: Tree) -> bool:
        """True when this is a part whose kind nothing is registered for."""
        kind = tree.child("kind")
        groups = [vars(arm)["group"] for arm in self.arms if isinstance(arm, type) and "group" in vars(arm)]
        return kind is not None and any(kind.value not in registry.names(group) for group in groups)

    def keys(self, tree: Tree) -> set[str] | None:
        """The keys that a mapping here may have, None where any will do."""
        specs = self.specs(tree)
        if not specs:
            return None
        return {field.alias or name for spec in specs for name, field in spec.model_fields.items()}

    def description(self, tree: Tree, key: str) -> str:
        """What the spec says of a key."""
        told = (
            field.description
            for spec in self.specs(tree)
            for name, field in spec.model_fields.items()
            if key in (name, field.alias) and field.description
        )
        return next(told, "")

    def child(self, tree: Tree, key: str | int) -> Expected:
        """What is expected under a key."""
        return _below(tuple(self.specs(tree)), tuple(self.arms), key)

    def default(self, tree: Tree, key: str) -> Tree:
        """A mapping to override a key of that is not written: the default, where it is a spec."""
        for spec in self.specs(tree):
            field = spec.model_fields.get(key)
            value = field.get_default(call_default_factory=True, validated_data={}) if field else None
            if isinstance(value, BaseModel):
                return tree_of(value, "default")
        return Tree({}, Origin("override"))


def _plain(annotation: Any) -> bool:
    """Whether an annotation allows numbers, words and collections of them alone."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return True
    if any(isinstance(mark, Named | File) for mark in getattr(annotation, "__metadata__", ())):
        return False
    if origin is typing.Annotated:
        return _plain(args[0])
    return all(_plain(arg) for arg in args if arg is not Ellipsis) if args else annotation in _WORDS


@functools.lru_cache(maxsize=2**16)
def _below(specs: tuple[type[BaseModel], ...], arms: tuple[Any, ...], key: str | int) -> Expected:
    """What is expected under a key of a mapping that may be these specs, or of what else an annotation allows."""
    below = Expected(None)
    below.arms = []
    for spec in specs:
        for name, field in spec.model_fields.items():
            if key in (name, field.alias):
                below._add(field.annotation, field.metadata)
    for arm in arms:
        origin, args = typing.get_origin(arm), typing.get_args(arm)
        if not isinstance(origin, type) or not args:
            continue
        if issubclass(origin, Mapping):
            below._add(args[1], ())
        elif issubclass(origin, tuple) and args[-1] is not Ellipsis:
            below._add(args[min(int(key), len(args) - 1)] if str(key).isdecimal() else None, ())
        elif issubclass(origin, Sequence | set | frozenset):
            below._add(args[0], ())
    return below
