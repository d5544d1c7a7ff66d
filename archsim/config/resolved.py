"""Trees with their names replaced by what they name, and values set by path."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from archsim.config.expected import Expected, File
from archsim.config.names import resolve_named, ships
from archsim.config.reader import Reader, compose, load_file, tree_of
from archsim.config.tree import MOST_LEVELS, Origin, Tree, merge
from archsim.config.wording import shown
from archsim.errors import InputError, Problem, nearest
from archsim.files import at_home, is_file


def _at(error: InputError, path: str) -> list[Problem]:
    """The problems of an error, those without a path told at ``path``."""
    return [replace(problem, path=problem.path or path) for problem in error.problems]


def _by_name(tree: Tree, expected: Expected) -> Tree:
    """The tree, loaded where it is a name and the spec wants the thing of that name."""
    if not expected.category or not isinstance(tree.value, str):
        return tree
    return load_file(resolve_named(expected.category, tree.value, tree.place), tree.place)


def _file_named(text: str, near: Origin, mark: File) -> str:
    """The whole path of a file; a name that ships, or that means nothing yet, as it is."""
    folder = Path(near.file).parent if near.line else Path()
    given = folder / at_home(text)
    if Path(text).name == text and not is_file(given) and (ships(mark.category, text) or not Path(text).suffix):
        return text
    return os.path.abspath(given)


def resolve(tree: Tree, expected: Expected, path: str, level: int, problems: list[Problem]) -> Tree:
    """The tree with all names replaced by what they name; names of nothing are added to ``problems``."""
    if level > MOST_LEVELS:
        problems.append(tree.place.problem(f"nested more than {MOST_LEVELS} levels deep", path))
        return tree
    if expected.plain:
        return tree
    try:
        tree = _by_name(tree, expected)
    except InputError as error:
        problems += _at(error, path)
        return tree

    def below(key: str | int, child: Tree) -> Tree:
        at = f"{path}.{key}" if path else str(key)
        return resolve(child, expected.child(tree, key), at, level + 1, problems)

    if expected.file is not None and isinstance(tree.value, str):
        return Tree(_file_named(tree.value, tree.place, expected.file), tree.place)
    if isinstance(tree.value, dict):
        return Tree({key: below(key, child) for key, child in tree.value.items()}, tree.place)
    if isinstance(tree.value, list):
        return Tree([below(i, child) for i, child in enumerate(tree.value)], tree.place)
    return tree


def override(tree: Tree, overrides: Mapping[str, Any], spec: type[BaseModel] | None = None) -> Tree:
    """The tree with values set by path, such as ``{"chip.memories.hbm.capacity": "16 GiB"}``.

    Text is read as YAML; a mapping is laid over what is there; null takes the key away, so that its default
    holds. Names on the way (``chip: tpu_v4i``) are loaded, which needs ``spec``. Short paths go first, so
    that the order in which they are given does not matter.
    """
    for path, value in sorted(overrides.items(), key=lambda item: item[0].count(".")):
        try:
            new = tree_of(parse_value(value) if isinstance(value, str) else value, "override")
        except InputError as error:
            raise InputError(_at(error, path)) from None
        tree = _set(tree, Expected(spec), path.split("."), 0, new)
    return tree


def parse_value(text: str) -> Any:
    """The plain value that a text is in YAML: ``'3'`` is a number, ``'[1, 2]'`` a list, ``''`` nothing."""
    try:
        return Reader("override").tree(compose(text, "override")).data() if text.strip() else None
    except InputError as error:
        raise Origin("override").error(error.problems[0].message) from None


def _set(tree: Tree, expected: Expected, keys: list[str], done: int, new: Tree) -> Tree:
    """The tree with ``new`` at ``keys[done:]``."""
    if done == len(keys):
        return merge(tree, new)
    path, key = ".".join(keys), keys[done]
    here = ".".join(keys[:done]) or "the config"
    try:
        tree = _by_name(tree, expected)
    except InputError as error:
        raise InputError(_at(error, here)) from None
    if isinstance(tree.value, list):
        if tree.child(key) is None:
            size = len(tree.value)
            raise Origin("override").error(f"{here} is a list of {size}, counted from 0: no '{key}'", path)
        items = list(tree.value)
        items[int(key)] = _set(items[int(key)], expected.child(tree, int(key)), keys, done + 1, new)
        return Tree(items, tree.place)
    if not isinstance(tree.value, dict):
        raise Origin("override").error(f"{here} is {shown(tree.value)}, which has no '{key}' in it", path)
    known = expected.keys(tree)
    last = done + 1 == len(keys)
    if key not in tree.value and (key not in known if known is not None else expected.category or not last):
        hint = nearest(key, {*(known or ()), *tree.value})
        raise Origin("override").error(f"{here} has no '{key}': {hint}", path)
    children = dict(tree.value)
    child = children.get(key)
    if last and new.value is None:
        children.pop(key, None)
    elif last and child is None:
        children[key] = new
    else:
        child = child or expected.default(tree, key)
        children[key] = _set(child, expected.child(tree, key), keys, done + 1, new)
    return Tree(children, tree.place)
