"""Configs: YAML to typed specs and back, with the place of every value kept.

A file may build on others, at any depth::

    extends: tpu_v4i                 # a shipped name, a file, or a list of them; the child wins
    memories: {hbm: {capacity: 16 GiB}}
    notes: null                      # a null takes an inherited key away
    engines: !include engines.yaml   # the whole value from another file

Text that ends in .yaml, .yml or .json, or starts with ``.``, ``/`` or ``~``, is a file, relative to the file
it is written in; any other is a shipped name, such as ``tpu_v4i`` or ``chips/tpu_v4i``, in which dashes,
dots, underscores and case are equal. A field of a spec marked :class:`Named` takes such a text for its value.

A config may name any config file (.yaml, .yml, .json) that its reader may read, in whatever folder and through links
too, and what it holds becomes a part of the resolved config: run configs that you would run as a script. It names
nothing else: a device, a pipe or a file of another ending is refused.

YAML is read by the rules of YAML 1.2: ``on`` is a word, ``1e9`` a number, ``12:30`` neither. JSON is YAML.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import itertools
import json
import math
import numbers
import os
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError

from archsim import registry
from archsim.errors import InputError, Problem, nearest, shortened
from archsim.files import at_home, is_file, read_text
from archsim.formats import ENDINGS, of_a_peer

__all__ = [
    "CONFIGS",
    "File",
    "Named",
    "Origin",
    "Source",
    "Tree",
    "build",
    "digest",
    "dump",
    "files_of",
    "load_spec",
    "load_tree",
    "locate",
    "merge",
    "override",
    "parse_value",
    "resolve_named",
    "shipped",
    "tree_of",
]

CONFIGS = Path(__file__).parent / "configs"
"""Where the shipped configs are, a folder for each category."""

_MOST_BYTES = 8 * 2**20
_MOST_NODES = 100_000
_MOST_LEVELS = 64
_LONG_TEXT = 100_000
_SUFFIXES = (".yaml", ".yml", ".json")

Keys: TypeAlias = tuple[str | int, ...]
M = TypeVar("M", bound=BaseModel)


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


# --- reading -------------------------------------------------------------------------------------------


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Tags scalars by the core schema of YAML 1.2."""

    yaml_implicit_resolvers: typing.ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), _first)


@functools.lru_cache(maxsize=128)
def _compose(text: str, file: str) -> yaml.Node:
    """The YAML nodes of a text; raises an InputError with the place of a syntax error."""
    try:
        if len(text) > _LONG_TEXT and sum(1 for _ in _values(text)) > 2 * _MOST_NODES:  # told before all are built
            raise Origin(file).error(f"too large: more than {_MOST_NODES} values")
        node: yaml.Node | None = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(part for part in (error.context, error.problem) if part)
        place = Origin(file, mark.line + 1, mark.column + 1) if mark else Origin(file)
        raise place.error(f"no valid YAML: {what}") from None
    except (yaml.YAMLError, UnicodeError) as error:
        raise Origin(file).error(f"no valid YAML: {shortened(' '.join(str(error).split()))}") from None
    except RecursionError:
        raise Origin(file).error(f"nested more than {_MOST_LEVELS} levels deep") from None
    if node is None:
        raise Origin(file).error("this is empty")
    return node


def _values(text: str) -> Iterator[yaml.Event]:
    """The first values of a YAML text, one more than are allowed."""
    starts = (yaml.ScalarEvent, yaml.AliasEvent, yaml.CollectionStartEvent)
    events = (event for event in yaml.parse(text, Loader=_Loader) if isinstance(event, starts))
    return itertools.islice(events, 2 * _MOST_NODES + 1)  # keys are no values


def _read(path: Path, near: Origin | None) -> str:
    """The text of a file; ``near`` is where the file is asked for."""
    near = near or Origin(str(path))
    try:
        return read_text(path, _MOST_BYTES)
    except InputError as error:
        (problem,) = error.problems
        if problem.line or is_file(path):
            raise
        close = difflib.get_close_matches(path.name, _names_beside(path), n=1)
        hint = f": did you mean '{path.parent / close[0]}'?" if close else ""
        reason = problem.message.removeprefix("cannot read it: ")
        raise near.error(f"cannot read '{path}': {reason}{hint}") from None


def _names_beside(path: Path) -> list[str]:
    """What a file that is not there may have been meant to be."""
    try:
        return [] if os.path.lexists(path) else [other.name for other in path.parent.iterdir()]
    except (OSError, ValueError):
        return []


def _load_file(path: Path, near: Origin | None = None, chain: tuple[Path, ...] = ()) -> Tree:
    """The tree of a file with all that it extends and includes; ``chain`` holds the files that led here."""
    path = at_home(str(path))
    resolved = Path(os.path.abspath(path))
    if resolved in chain:
        circle = " -> ".join(p.name for p in (*chain[chain.index(resolved) :], resolved))
        raise (near or Origin(str(path))).error(f"files extend one another in a circle: {circle}")
    text = _read(path, near)
    peers = of_a_peer(path, text)
    if peers is not None:
        if peers.what == "case":
            raise (near or Origin(str(path))).error(
                f"'{path}' describes a question, no config: ask it with 'archsim {peers.question}' or 'archsim run'"
            )
        return tree_of(peers.document, str(path))
    if path.suffix == ".json":
        text = text.replace("\t", " ")  # the one character that JSON may be laid out with and YAML may not
    return _Reader(str(path), (*chain, resolved)).tree(_compose(text, str(path)))


class _Reader:
    """Turns YAML nodes of one text to a tree."""

    def __init__(self, file: str, chain: tuple[Path, ...] = ()) -> None:
        self.file = file
        self.chain = chain
        self.nodes = 0

    def tree(self, node: yaml.Node, place: Origin | None = None, level: int = 0) -> Tree:
        """The tree of a node; aliases are expanded, ``extends`` and ``!include`` followed."""
        own = Origin(self.file, node.start_mark.line + 1, node.start_mark.column + 1)
        place = place or own
        self.nodes += 1
        if self.nodes > _MOST_NODES:
            raise place.error(f"too large: more than {_MOST_NODES} values with all aliases expanded")
        if level > _MOST_LEVELS:
            raise place.error(f"nested more than {_MOST_LEVELS} levels deep")
        if node.tag == "!include":
            if not isinstance(node, yaml.ScalarNode):
                raise own.error("!include is followed by the name of a file")
            return _load_file(_config_file(node.value, own), own, self.chain)
        if isinstance(node, yaml.MappingNode) and node.tag.endswith(":map"):
            return self._mapping(node, place, level)
        if isinstance(node, yaml.SequenceNode) and node.tag.endswith(":seq"):
            return Tree([self.tree(item, None, level + 1) for item in node.value], place)
        if isinstance(node, yaml.ScalarNode):
            return Tree(_scalar(node, own), place)
        raise own.error(f"the tag '{node.tag}' is not known here: only !include is")

    def _mapping(self, node: yaml.MappingNode, place: Origin, level: int) -> Tree:
        children: dict[str, Tree] = {}
        for key, value in node.value:
            at = Origin(self.file, key.start_mark.line + 1, key.start_mark.column + 1)
            if not isinstance(key, yaml.ScalarNode):
                raise at.error("a key is a plain word, not a list or a mapping")
            if key.value in children:
                first = children[key.value].place.line
                raise at.error(f"'{key.value}' is written twice, first at line {first}")
            if key.value == "<<":
                raise at.error("merge keys are not read: write 'extends:' instead")
            children[key.value] = self.tree(value, at, level + 1)
        return _extended(Tree(children, place), self.chain)


def _config_file(text: str, near: Origin) -> Path:
    """The file that ``extends`` or ``!include`` names: a config and nothing else, wherever it lies."""
    file = locate(text, near)
    if file.suffix not in (*_SUFFIXES, *ENDINGS):
        raise near.error(f"'{shortened(text)}' is no config: its name ends in {', '.join(_SUFFIXES)}")
    return file


def _extended(tree: Tree, chain: tuple[Path, ...] = ()) -> Tree:
    """A mapping laid over what its ``extends`` names, if it has one."""
    if not isinstance(tree.value, dict) or "extends" not in tree.value:
        return tree
    parents = tree.value["extends"]
    base = Tree({}, tree.place)
    for parent in parents.value if isinstance(parents.value, list) else [parents]:
        if not isinstance(parent.value, str):
            raise parent.place.error("'extends' takes the name of a config or of a file, or a list of them")
        loaded = _load_file(_config_file(parent.value, parent.place), parent.place, chain)
        if not isinstance(loaded.value, dict):
            raise parent.place.error(f"'{parent.value}' holds no mapping to extend")
        base = merge(base, loaded)
    own = {key: child for key, child in tree.value.items() if key != "extends"}
    return merge(base, Tree(own, tree.place))


def _scalar(node: yaml.ScalarNode, place: Origin) -> str | int | float | bool | None:
    text = str(node.value)
    kind = node.tag.removeprefix("tag:yaml.org,2002:")
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    if kind in ("int", "float"):
        try:
            number = float(text) if kind == "float" else int(text, 0 if text[:2] in ("0x", "0o") else 10)
        except ValueError:
            number = math.nan
        if isinstance(number, float) and not math.isfinite(number):
            raise place.error(f"'{text if len(text) < 40 else text[:37] + '...'}' is no finite number")
        return number
    if kind in ("str", "!"):
        return text
    raise place.error(f"the tag '{node.tag}' is not known here: only !include is")


def tree_of(data: object, origin: str = "argument", level: int = 0) -> Tree:
    """A tree of plain Python data (dicts, lists, text, numbers, specs), all of it from ``origin``."""
    place = Origin(origin)
    if level > _MOST_LEVELS:
        raise place.error(f"nested more than {_MOST_LEVELS} levels deep")
    if isinstance(data, Tree):
        return data
    if isinstance(data, BaseModel):
        return tree_of(dump(data), origin, level)
    if isinstance(data, Mapping):
        return _extended(Tree({str(k): tree_of(v, origin, level + 1) for k, v in data.items()}, place))
    if data is None or isinstance(data, bool):
        return Tree(data, place)
    if isinstance(data, str | os.PathLike):
        return Tree(str(os.fspath(data)), place)
    if isinstance(data, numbers.Integral):
        return Tree(int(data), place)
    if isinstance(data, numbers.Real):
        return Tree(float(data), place)
    if isinstance(data, Sequence):
        return Tree([tree_of(item, origin, level + 1) for item in data], place)
    raise place.error(f"{_shown(data)} is no plain data: text, a number, a list or a mapping is")


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


# --- names ---------------------------------------------------------------------------------------------


def shipped(category: str) -> dict[str, Path]:
    """Name to file of the shipped configs of a category: chips, systems, models, technology, runs, sweeps."""
    files = (CONFIGS / category).iterdir() if (CONFIGS / category).is_dir() else ()
    return {path.stem: path for path in sorted(files) if path.suffix in _SUFFIXES}


def _is_file(text: str) -> bool:
    return text.endswith((*_SUFFIXES, *ENDINGS)) or text.startswith((".", "/", "~"))


def _plain(name: str) -> str:
    return re.sub(r"[-. ]", "_", name).casefold()


_RELEASE = re.compile(r"[-_](instruct|chat|hf|it|pt|base|v\d+(\.\d+)?|\d{4})$", re.IGNORECASE)


def _published(text: str) -> str:
    """The name within an id under which a model is published, ``owner/name``, without what tells its releases apart."""
    _, slash, name = text.partition("/")
    if not slash:
        return text
    while (short := _RELEASE.sub("", name)) != name:
        name = short
    return re.sub(r"^(meta|mistralai)[-_]", "", name, flags=re.IGNORECASE)


def resolve_named(category: str, text: str, near: Origin | None = None) -> Path:
    """The file that a name of a category, or a path, means.

    Parameters
    ----------
    near: where the text is written; a path is relative to that file's folder.
    """
    near = near or Origin("argument")
    if _is_file(text):
        return Path(near.file).parent / at_home(text)
    known = shipped(category)
    wanted = _plain(text.removeprefix(f"{category}/"))
    published = _plain(_published(text))
    for name, path in known.items():
        if _plain(name) in (wanted, published):
            return path
    raise near.error(f"no {category.removesuffix('s')} is called '{text}': {nearest(wanted, known)}")


def locate(text: str, near: Origin | None = None) -> Path:
    """The file that a name of whatever category, or a path, means; see :func:`resolve_named`."""
    near = near or Origin("argument")
    category, slash, _ = text.partition("/")
    if _is_file(text) or (slash and category in {folder.name for folder in CONFIGS.iterdir()}):
        return resolve_named(category, text, near)
    everything = {
        f"{folder.name}/{name}": path
        for folder in sorted(CONFIGS.iterdir())
        if folder.is_dir()
        for name, path in shipped(folder.name).items()
    }
    found = [name for name in everything if _plain(name.partition("/")[2]) == _plain(text)]
    home = Path(near.file).parent.name
    found = [name for name in found if name.startswith(home + "/")] or found
    if len(found) == 1:
        return everything[found[0]]
    if found:
        raise near.error(f"'{text}' may be {' or '.join(found)}: write which")
    names = {name.partition("/")[2] for name in everything}
    raise near.error(f"no config is called '{text}': {nearest(text, names)}")


# --- what the spec expects -----------------------------------------------------------------------------


class _Expected:
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

    def child(self, tree: Tree, key: str | int) -> _Expected:
        """What is expected under a key."""
        below = _Expected(None)
        below.arms = []
        for spec in self.specs(tree):
            for name, field in spec.model_fields.items():
                if key in (name, field.alias):
                    below._add(field.annotation, field.metadata)
        for arm in self.arms:
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

    def default(self, tree: Tree, key: str) -> Tree:
        """A mapping to override a key of that is not written: the default, where it is a spec."""
        for spec in self.specs(tree):
            field = spec.model_fields.get(key)
            value = field.get_default(call_default_factory=True, validated_data={}) if field else None
            if isinstance(value, BaseModel):
                return tree_of(value, "default")
        return Tree({}, Origin("override"))


def _at(error: InputError, path: str) -> list[Problem]:
    """The problems of an error, those without a path told at ``path``."""
    return [replace(problem, path=problem.path or path) for problem in error.problems]


def _by_name(tree: Tree, expected: _Expected) -> Tree:
    """The tree, loaded where it is a name and the spec wants the thing of that name."""
    if not expected.category or not isinstance(tree.value, str):
        return tree
    return _load_file(resolve_named(expected.category, tree.value, tree.place), tree.place)


def _file_named(text: str, near: Origin, mark: File) -> str:
    """The whole path of a file; a name that ships, or that means nothing yet, as it is."""
    folder = Path(near.file).parent if near.line else Path()
    given = folder / at_home(text)
    known = CONFIGS / mark.category / text
    if Path(text).name == text and not is_file(given) and (is_file(known) or not Path(text).suffix):
        return text
    return os.path.abspath(given)


def _resolve(tree: Tree, expected: _Expected, path: str, level: int, problems: list[Problem]) -> Tree:
    """The tree with all names replaced by what they name; names of nothing are added to ``problems``."""
    if level > _MOST_LEVELS:
        problems.append(tree.place.problem(f"nested more than {_MOST_LEVELS} levels deep", path))
        return tree
    try:
        tree = _by_name(tree, expected)
    except InputError as error:
        problems += _at(error, path)
        return tree

    def below(key: str | int, child: Tree) -> Tree:
        at = f"{path}.{key}" if path else str(key)
        return _resolve(child, expected.child(tree, key), at, level + 1, problems)

    if expected.file is not None and isinstance(tree.value, str):
        return Tree(_file_named(tree.value, tree.place, expected.file), tree.place)
    if isinstance(tree.value, dict):
        return Tree({key: below(key, child) for key, child in tree.value.items()}, tree.place)
    if isinstance(tree.value, list):
        return Tree([below(i, child) for i, child in enumerate(tree.value)], tree.place)
    return tree


# --- overrides -----------------------------------------------------------------------------------------


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
        tree = _set(tree, _Expected(spec), path.split("."), 0, new)
    return tree


def parse_value(text: str) -> Any:
    """The plain value that a text is in YAML: ``'3'`` is a number, ``'[1, 2]'`` a list, ``''`` nothing."""
    try:
        return _Reader("override").tree(_compose(text, "override")).data() if text.strip() else None
    except InputError as error:
        raise Origin("override").error(error.problems[0].message) from None


def _set(tree: Tree, expected: _Expected, keys: list[str], done: int, new: Tree) -> Tree:
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
        raise Origin("override").error(f"{here} is {_shown(tree.value)}, which has no '{key}' in it", path)
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


# --- trees to specs ------------------------------------------------------------------------------------


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
        tree = _load_file(resolve_named(category, text) if category and not _is_file(text) else Path(text))
    if not isinstance(tree.value, dict):
        raise tree.place.error(f"a config is a mapping of keys to values, not {_shown(tree.data())}")
    tree = override(tree, overrides or {}, spec)
    if spec is not None:
        problems: list[Problem] = []
        tree = _resolve(tree, _Expected(spec), "", 0, problems)
        if problems:
            _check(tree, spec, problems)
    return tree


def load_spec(source: Source, spec: type[M], overrides: Mapping[str, Any] | None = None, category: str = "") -> M:
    """Read a config, apply overrides, and build the spec; see :func:`load_tree`."""
    return build(load_tree(source, overrides, spec, category), spec)


def build(tree: Tree, spec: type[M]) -> M:
    """The spec that a tree says.

    Raises
    ------
    InputError: with everything that is wrong with the tree, each at the place where it was written.
    """
    problems: list[Problem] = []
    return _check(_resolve(tree, _Expected(spec), "", 0, problems), spec, problems)


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
        for path, place, message in _findings(detail, tree, _Expected(spec)):
            texts = messages.setdefault((".".join(path), place), [])
            if message not in texts:
                texts.append(message)
    return [place.problem("; or ".join(texts), path) for (path, place), texts in messages.items()]


def _findings(detail: Any, node: Tree, expected: _Expected) -> Iterator[tuple[list[str], Origin, str]]:
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
        yield [*path, "kind"], kind.place, _worded(detail)
    elif isinstance(cause, InputError):  # a validator that looks at several keys may say which one is wrong
        for problem in cause.problems:
            below = problem.path.split(".") if problem.path else []
            yield [*path, *below], node.origin(problem.path), problem.message
    else:
        yield path, node.place, _worded(detail)


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if value is None or isinstance(value, bool):
        return {None: "nothing", True: "true", False: "false"}[value]
    return f"'{shortened(value, 60)}'" if isinstance(value, str) else shortened(repr(value), 60)


_EXPECTED: dict[str, str | Callable[[Mapping[str, Any]], str]] = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "mapping_type": "a mapping",
    "none_required": "nothing",
    "path_type": "the name of a file",
    "greater_than_equal": lambda c: f"at least {c['ge']}",
    "greater_than": lambda c: f"more than {c['gt']}",
    "less_than_equal": lambda c: f"at most {c['le']}",
    "less_than": lambda c: f"less than {c['lt']}",
    "too_short": lambda c: f"at least {c['min_length']} items",
    "too_long": lambda c: f"at most {c['max_length']} items",
    "string_too_short": lambda c: f"text of at least {c['min_length']} characters",
    "string_pattern_mismatch": lambda c: f"text like {c['pattern']}",
    "multiple_of": lambda c: f"a multiple of {c['multiple_of']}",
    "literal_error": lambda c: c["expected"],
    "enum": lambda c: c["expected"],
}


def _worded(detail: Any) -> str:
    """pydantic's message in our words."""
    kind, context, value = detail["type"], detail.get("ctx", {}), detail["input"]
    if kind in ("value_error", "assertion_error"):
        return str(context["error"])
    expected = _EXPECTED.get(kind)
    if expected is None:
        return str(detail["msg"]).replace("Input should be", "expected")
    message = f"expected {expected if isinstance(expected, str) else expected(context)}, not {_shown(value)}"
    if kind in ("literal_error", "enum") and isinstance(value, str):
        names = re.findall(r"'([^']*)'", context["expected"])
        close = difflib.get_close_matches(value, names, n=1, cutoff=0.5)
        message += f": did you mean '{close[0]}'?" if close else ""
    return message


# --- specs to data -------------------------------------------------------------------------------------


def dump(spec: BaseModel) -> dict[str, Any]:
    """The resolved config as plain data, defaults and all; building it again gives an equal spec."""
    try:
        return spec.model_dump(mode="json", by_alias=True, round_trip=True)
    except PydanticSerializationError as error:
        if "KeyboardInterrupt" in str(error):  # pydantic takes a Ctrl-C for a fault of the serialiser
            raise KeyboardInterrupt from None
        raise


class _Dumper(yaml.SafeDumper):
    """Writes YAML 1.2: text that would read as a number, a truth value or null stands in quotes."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    try:
        plain = "\n" not in text and isinstance(parse_value(text), str)
    except InputError:
        plain = False
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


_Dumper.add_representer(str, _text)


def files_of(spec: BaseModel) -> Iterator[str]:
    """The paths of all files that a spec names where :class:`File` marks them."""

    def within(tree: Tree, expected: _Expected) -> Iterator[str]:
        if isinstance(tree.value, dict | list):
            for key, child in tree.value.items() if isinstance(tree.value, dict) else enumerate(tree.value):
                yield from within(child, expected.child(tree, key))
        elif expected.file is not None and isinstance(tree.value, str):
            yield tree.value

    return within(tree_of(dump(spec)), _Expected(type(spec)))


def to_yaml(spec: BaseModel) -> str:
    """The resolved config as YAML that builds an equal spec."""
    return yaml.dump(dump(spec), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def digest(spec: BaseModel) -> str:
    """16 hex digits that are equal for equal resolved configs, however they were written.

    The order of entries counts where users name them: memory tiers stand nearest first.
    """
    canonical = json.dumps(dump(spec), separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
