"""Files as other tools write them, turned into what archsim's own files say.

A format is a module with ``NAME``, ``fits(path, head)`` and ``read(path)``; ``head`` is the beginning of the file. What
a file cannot say here, or says and is not modelled, is a note. Wherever a chip, a system, a model, a device or an
algorithm is named, the file of a peer may stand as well; ``archsim convert`` writes what became of it.
"""

from __future__ import annotations

import gzip
import importlib
import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from archsim.errors import InputError, Problem, shortened
from archsim.files import opened

What = Literal["chip", "system", "model", "device", "network", "algorithm", "workload", "run", "case", "names"]


@dataclass(frozen=True)
class Converted:
    """What became of a file.

    Attributes
    ----------
    what: chip, system, model, device (of DRAM), network (its dimensions), algorithm (of a collective), workload, run
        or case; or names, of files that belong together. document: as our own file of that kind says it.
    notes: what could not be said, or had to be assumed. question: of a case, which command answers it.
    """

    what: What
    document: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    question: str = ""
    machine: Mapping[str, Any] = field(default_factory=dict)
    """of a workload, what it ran on, where the file says that"""


class Format(Protocol):
    """A module that reads one."""

    NAME: str

    def fits(self, path: Path, head: str) -> bool:
        """Whether a file is one, by its name and its beginning."""

    def read(self, path: Path) -> Converted:
        """What it says.

        Raises
        ------
        InputError: it is none after all, or something is missing; told with its place.
        """


_MODULES = (
    "traces",
    "astra_sim",
    "msccl",
    "scalesim",
    "onnxim",
    "llmcompass",
    "calculon",
    "timeloop",
    "dramsim3",
    "ramulator",
    "booksim",
    "pim",
    "onnx_graph",
    "torch_export",
    "requests",
    "hugging_face",
)
_HEAD = 2**16
ENDINGS = (".cfg", ".ini", ".xml", ".icnt", ".onnx", ".pt2")
"""Of names that no file of our own has."""


def formats() -> list[Any]:
    """All of them, in the order in which they are tried."""
    return [importlib.import_module(f"archsim.formats.{name}") for name in _MODULES]


def head_of(path: Path) -> str:
    """The beginning of a file, unpacked; empty where it cannot be read."""
    try:
        with opened(path) as stream:
            raw = stream.read(_HEAD)
            if raw[:2] == b"\x1f\x8b":
                raw = zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(raw, _HEAD)
    except (OSError, ValueError, zlib.error, gzip.BadGzipFile):
        return ""
    return raw.decode("utf-8", errors="replace")


def format_of(path: Path) -> Any | None:
    """The format of a file, None where none fits."""
    head = head_of(path)
    return next((one for one in formats() if one.fits(path, head)), None)


_MARKS = re.compile(
    r"^(architecture|npus_count|MemorySystem):"
    r'|"(core_config|compute_chiplet|mem1|feedforward|tensor_par|run_single_layer|preferred-dataset-splits)"',
    re.MULTILINE,
)


def of_a_peer(path: Path, text: str) -> Converted | None:
    """What a file says that stands where one of ours is expected; None: it is one of ours.

    Parameters
    ----------
    text: of the file, which is looked at before any format is.
    """
    if path.suffix not in ENDINGS and not _MARKS.search(text[:_HEAD]):
        return None
    return understood(path)


def understood(path: Path) -> Converted | None:
    """What a file of whatever format says; None where none fits.

    Raises
    ------
    InputError: the file is wrong; where its reader does not say how, it is not laid out as its tool writes it.
    """
    known = format_of(path)
    if known is None:
        return None
    try:
        found: Converted = known.read(path)
    except InputError:
        raise
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        RecursionError,
        StopIteration,
        TypeError,
        ValueError,
    ) as error:
        message = f"is not laid out as {known.NAME} writes it: {shortened(repr(error))}"
        raise InputError([Problem(message, str(path))]) from None
    return found


def read(path: Path) -> Converted:
    """What a file of whatever format says.

    Raises
    ------
    InputError: no format fits, or the file is wrong.
    """
    found = understood(path)
    if found is None:
        names = ", ".join(one.NAME for one in formats())
        raise InputError([Problem(f"no format is known that it is of: known are {names}", str(path))])
    return found


def json_object(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds.

    Raises
    ------
    InputError: it cannot be read, or holds no object.
    """
    from archsim.files import parse_json, read_text

    found = parse_json(read_text(path), str(path))
    if not isinstance(found, dict):
        raise InputError([Problem("expected a JSON object", str(path), 1, 1)])
    return found


def yaml_value(path: Path) -> Any:
    """What a YAML file says.

    Raises
    ------
    InputError: it cannot be read, or is no YAML; says where.
    """
    import yaml

    from archsim.files import read_text

    try:
        return yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        raise InputError([Problem(f"no valid YAML: {shortened(error)}", str(path), *place)]) from None


class Keys:
    """A mapping of a file, whose values are asked for by their names and kinds."""

    def __init__(self, values: Mapping[str, Any], path: Path, where: str = "") -> None:
        self.values, self.path, self.where = values, path, where

    def error(self, key: str, message: str) -> InputError:
        """An error at a key."""
        return InputError([Problem(message, str(self.path), path=f"{self.where}{key}")])

    def number(self, key: str, default: float | None = None, least: float = 0.0) -> float:
        """A finite number of at least ``least``."""
        value = self.values.get(key, default)
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = float("nan")
        if not least <= number < 1e300 or isinstance(value, bool):
            shown = "it is missing" if value is None else f"not '{shortened(value)}'"
            raise self.error(key, f"expected a number of at least {least:g}: {shown}")
        return number

    def whole(self, key: str, default: int | None = None, least: int = 1) -> int:
        """A whole number of at least ``least``."""
        number = self.number(key, default, least)
        if number != int(number) or number > 2**53:
            raise self.error(key, f"expected a whole number, not '{shortened(self.values.get(key))}'")
        return int(number)

    def text(self, key: str, default: str | None = None) -> str:
        """A text."""
        value = self.values.get(key, default)
        if not isinstance(value, str):
            raise self.error(key, "it is missing" if value is None else f"expected a text, not '{shortened(value)}'")
        return value

    def below(self, key: str) -> Keys:
        """The mapping under a key."""
        value = self.values.get(key)
        if not isinstance(value, Mapping):
            raise self.error(key, "it is missing" if value is None else "expected a mapping")
        return Keys(value, self.path, f"{self.where}{key}.")


def quantity(value: float, unit: str) -> str:
    """A quantity as our files write it, exact."""
    return f"{int(value)} {unit}" if value == int(value) else f"{json.dumps(value)} {unit}"
