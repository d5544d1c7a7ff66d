"""Files and plain data to trees: the rules of YAML 1.2, ``extends`` and ``!include``, and what is refused."""

from __future__ import annotations

import difflib
import functools
import itertools
import math
import numbers
import os
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import yaml
from pydantic import BaseModel

from archsim.config.names import CONFIGS, SUFFIXES, locate
from archsim.config.tree import MOST_LEVELS, Origin, Tree, dump, merge
from archsim.config.wording import shown
from archsim.errors import InputError, shortened
from archsim.files import at_home, is_file, read_text
from archsim.formats import ENDINGS, of_a_peer
from archsim.formats.hugging_face import BESIDE

_MOST_BYTES = 8 * 2**20
_MOST_NODES = 100_000
_LONG_TEXT = 100_000


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
def compose(text: str, file: str) -> yaml.Node:
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
        raise Origin(file).error(f"nested more than {MOST_LEVELS} levels deep") from None
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


def load_file(path: Path, near: Origin | None = None, chain: tuple[Path, ...] = ()) -> Tree:
    """The tree of a file with all that it extends and includes; ``chain`` holds the files that led here."""
    path = at_home(str(path))
    resolved = Path(os.path.abspath(path))
    if resolved in chain:
        circle = " -> ".join(p.name for p in (*chain[chain.index(resolved) :], resolved))
        raise (near or Origin(str(path))).error(f"files extend one another in a circle: {circle}")
    return _shipped(path) if CONFIGS in path.parents else _loaded(path, near, (*chain, resolved))


def _loaded(path: Path, near: Origin | None, chain: tuple[Path, ...]) -> Tree:
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
    tree = Reader(str(path), chain).tree(compose(text, str(path)))
    return _with_quantisation(tree, path, chain) if path.name == "config.json" else tree


def _with_quantisation(tree: Tree, path: Path, chain: tuple[Path, ...]) -> Tree:
    """A published model with what ModelOpt says of its weights, which older exports keep in a file beside."""
    beside = path.with_name(BESIDE)
    model = tree.value
    if not isinstance(model, dict) or "model_type" not in model or "quantization_config" in model:
        return tree
    if not is_file(beside):
        return tree
    told = load_file(beside, None, chain)
    how = told.value.get("quantization") if isinstance(told.value, dict) else None
    if how is None or not isinstance(how.value, dict):
        raise told.place.error("expected 'quantization': how the weights of the model beside are stored")
    method = Tree("modelopt", how.place)
    return Tree(model | {"quantization_config": Tree({"quant_method": method, **how.value}, how.place)}, tree.place)


@functools.lru_cache(maxsize=256)
def _shipped(path: Path) -> Tree:
    """What ships says the same as long as a process runs, and builds on what ships alone."""
    return _loaded(path, None, (path,))


class Reader:
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
        if level > MOST_LEVELS:
            raise place.error(f"nested more than {MOST_LEVELS} levels deep")
        if node.tag == "!include":
            if not isinstance(node, yaml.ScalarNode):
                raise own.error("!include is followed by the name of a file")
            return load_file(_config_file(node.value, own), own, self.chain)
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
        return extended(Tree(children, place), self.chain)


def _config_file(text: str, near: Origin) -> Path:
    """The file that ``extends`` or ``!include`` names: a config and nothing else, wherever it lies."""
    file = locate(text, near)
    if file.suffix not in (*SUFFIXES, *ENDINGS):
        raise near.error(f"'{shortened(text)}' is no config: its name ends in {', '.join(SUFFIXES)}")
    return file


def extended(tree: Tree, chain: tuple[Path, ...] = ()) -> Tree:
    """A mapping laid over what its ``extends`` names, if it has one."""
    if not isinstance(tree.value, dict) or "extends" not in tree.value:
        return tree
    parents = tree.value["extends"]
    base = Tree({}, tree.place)
    for parent in parents.value if isinstance(parents.value, list) else [parents]:
        if not isinstance(parent.value, str):
            raise parent.place.error("'extends' takes the name of a config or of a file, or a list of them")
        loaded = load_file(_config_file(parent.value, parent.place), parent.place, chain)
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
    if level > MOST_LEVELS:
        raise place.error(f"nested more than {MOST_LEVELS} levels deep")
    if isinstance(data, Tree):
        return data
    if isinstance(data, BaseModel):
        return tree_of(dump(data), origin, level)
    if isinstance(data, Mapping):
        return extended(Tree({str(k): tree_of(v, origin, level + 1) for k, v in data.items()}, place))
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
    raise place.error(f"{shown(data)} is no plain data: text, a number, a list or a mapping is")
