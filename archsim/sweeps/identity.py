"""What an answer depends on: the resolved config, every file that is read for it, and the code that answers."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import BaseModel

from archsim import registry
from archsim.config import dump, files_of, load_tree
from archsim.errors import InputError
from archsim.files import opened
from archsim.workloads.chakra_trace import TRACE_FILE
from archsim.workloads.chakra_trace import files_of as files_of_ranks

_ANSWERING = (".py", ".yaml", ".yml", ".json", ".csv", ".jsonl")
_GROUPS = ("archsim.components", "archsim.workloads")


def keys() -> Callable[[BaseModel], str]:
    """A function from a run to 16 hex digits, equal where the answer must be; a file is read once for all runs."""
    content = functools.cache(_content)

    def key(spec: BaseModel) -> str:
        data = dump(spec)
        parts = [code(), json.dumps(data, separators=(",", ":"), allow_nan=False)]
        parts += [content(path) for path in files_of(data, type(spec))]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    return key


def _content(path: str) -> str:
    """Digest of what a file says; of a config with all that it builds on. What ships is a part of the code."""
    file = Path(path)
    try:
        if file.suffix in (".yaml", ".yml"):
            return json.dumps(load_tree(file).data())
        if TRACE_FILE.fullmatch(file.name):
            return " ".join(map(_digest, files_of_ranks(path).values()))
        return _digest(file)
    except (OSError, InputError):  # told when it is read
        return ""


def _digest(file: Path) -> str:
    digest = hashlib.sha256()
    with opened(file) as stream:
        while part := stream.read(2**20):
            digest.update(part)
    return digest.hexdigest()


@functools.cache
def code() -> str:
    """Digest of all code, configs and calibrations that answer: archsim's, and those of packages that add parts."""
    folders = {Path(__file__).resolve().parents[1]}
    for group in _GROUPS:
        for place in registry.places(group):
            package = place.partition(":")[0].partition(".")[0]
            found = importlib.util.find_spec(package)
            if found is not None and found.origin is not None:
                origin = Path(found.origin).resolve()
                folders.add(origin.parent if origin.name == "__init__.py" else origin)
    digest = hashlib.sha256()
    for folder in sorted(folders):
        for name, file in _files(folder):
            digest.update(f"{name}\0{_digest(file)}\n".encode())
    return digest.hexdigest()


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Files that may change an answer, by their names within the folder."""
    if folder.is_file():
        yield folder.name, folder
        return
    found = []
    for here, below, names in os.walk(folder, followlinks=True):
        below[:] = sorted(name for name in below if name not in ("__pycache__", "validation"))
        found += [Path(here, name) for name in names if name.endswith(_ANSWERING)]
    for file in sorted(found):
        yield file.relative_to(folder).as_posix(), file
