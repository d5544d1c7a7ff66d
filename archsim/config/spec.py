"""Trees to specs, with everything that is wrong told at its place."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from archsim.config.expected import Expected
from archsim.config.names import names_file, resolve_named
from archsim.config.reader import load_file, tree_of
from archsim.config.resolved import override, resolve
from archsim.config.tree import Origin, Source, Tree
from archsim.config.wording import shown, worded
from archsim.errors import InputError, Problem, nearest

M = TypeVar("M", bound=BaseModel)


def load_tree(
    source: Source, overrides: Mapping[str, Any] | None = None, spec: type[BaseModel] | None = None, category: str = ""
) -> Tree:
    """Plain data of a config with the origin of every value; all that it extends and names is resolved.

    Parameters
    ----------
    source: a file, a name of ``category``, a mapping, or a tree.
    overrides: path to value, see :func:`override`.
    spec: what the config is to become; without it names are left as they are.
    category: folder of the shipped configs in which ``source`` may be a name.
    """
    if isinstance(source, Tree | Mapping):
        tree = tree_of(source)
    else:
        text = os.fspath(source)
        tree = load_file(resolve_named(category, text) if category and not names_file(text) else Path(text))
    if not isinstance(tree.value, dict):
        raise tree.place.error(f"a config is a mapping of keys to values, not {shown(tree.data())}")
    tree = override(tree, overrides or {}, spec)
    if spec is not None:
        problems: list[Problem] = []
        tree = resolve(tree, Expected(spec), "", 0, problems)
        if problems:
            _check(tree, spec, problems)
    return tree


def load_spec(source: Source, spec: type[M], overrides: Mapping[str, Any] | None = None, category: str = "") -> M:
    """Read a config, apply overrides, and build the spec; see :func:`load_tree`."""
    return _check(load_tree(source, overrides, spec, category), spec, [])  # which has resolved it


def build(tree: Tree, spec: type[M]) -> M:
    """The spec that a tree says.

    Raises
    ------
    InputError: with everything that is wrong with the tree, each at the place where it was written.
    """
    problems: list[Problem] = []
    return _check(resolve(tree, Expected(spec), "", 0, problems), spec, problems)


def _check(tree: Tree, spec: type[M], problems: list[Problem]) -> M:
    """The spec, or an error with ``problems`` and what pydantic finds apart from them."""
    try:
        built = spec.model_validate(tree.data())
    except ValidationError as error:
        found = _problems(error, tree, spec)
        problems = problems + [
            p
            for p in found
            if not any(known.path == p.path or known.path.startswith(p.path + ".") for known in problems)
        ]
    else:
        if not problems:
            return built
    raise InputError(sorted(problems, key=lambda p: (p.file != tree.place.file, p.file, p.line, p.column)))


def _problems(error: ValidationError, tree: Tree, spec: type[BaseModel]) -> list[Problem]:
    """What pydantic found, in our words and at its place; the arms of a union are told together."""
    messages: dict[tuple[str, Origin], list[str]] = {}
    for detail in error.errors(include_url=False):
        for path, place, message in _findings(detail, tree, Expected(spec)):
            texts = messages.setdefault((".".join(path), place), [])
            if message not in texts:
                texts.append(message)
    return [place.problem("; or ".join(texts), path) for (path, place), texts in messages.items()]


def _findings(detail: Any, node: Tree, expected: Expected) -> Iterator[tuple[list[str], Origin, str]]:
    """Path, place and message of one of pydantic's errors."""
    path: list[str] = []
    holder = expected, node
    for key in detail["loc"]:
        child = node.child(key)
        if child is not None:  # other parts of a location name arms of a union
            holder = expected, node
            node, expected = child, expected.child(node, key)
            path.append(str(key))
    name = str(detail["loc"][-1]) if detail["loc"] else ""
    kind = node.child("kind")
    cause = detail.get("ctx", {}).get("error")
    if detail["type"] == "missing":
        told = expected.description(node, name)
        yield [*path, name], node.place, f"'{name}' is missing" + (f": {told}" if told else "")
    elif detail["type"] == "extra_forbidden":
        yield path, node.place, f"unknown key: {nearest(name, holder[0].keys(holder[1]) or ())}"
    elif kind is not None and expected.unknown_kind(node):
        yield [*path, "kind"], kind.place, worded(detail)
    elif isinstance(cause, InputError):  # a validator that looks at several keys may say which one is wrong
        for problem in cause.problems:
            below = problem.path.split(".") if problem.path else []
            yield [*path, *below], node.origin(problem.path), problem.message
    else:
        yield path, node.place, worded(detail)
