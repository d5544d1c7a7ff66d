"""Specs back to YAML, and their digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import BaseModel

from archsim.config.expected import Expected
from archsim.config.reader import tree_of
from archsim.config.resolved import parse_value
from archsim.config.tree import Tree, dump
from archsim.errors import InputError


class _Dumper(yaml.SafeDumper):
    """Writes YAML 1.2: text that would read as a number, a truth value or null stands in quotes."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    try:
        plain = "\n" not in text and isinstance(parse_value(text), str)
    except InputError:
        plain = False
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


_Dumper.add_representer(str, _text)


def files_of(data: dict[str, Any], spec: type[BaseModel]) -> Iterator[str]:
    """The paths of all files that the plain data of a spec names where :class:`File` marks them."""

    def within(tree: Tree, expected: Expected) -> Iterator[str]:
        if isinstance(tree.value, dict | list):
            for key, child in tree.value.items() if isinstance(tree.value, dict) else enumerate(tree.value):
                yield from within(child, expected.child(tree, key))
        elif expected.file is not None and isinstance(tree.value, str):
            yield tree.value

    return within(tree_of(data), Expected(spec))


def to_yaml(spec: BaseModel) -> str:
    """The resolved config as YAML that builds an equal spec."""
    return yaml.dump(dump(spec), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def digest(spec: BaseModel) -> str:
    """16 hex digits that are equal for equal resolved configs, however they were written.

    The order of entries counts where users name them: memory tiers stand nearest first.
    """
    canonical = json.dumps(dump(spec), separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
