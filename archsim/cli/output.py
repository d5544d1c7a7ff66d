"""What commands share: JSON on stdout, progress on stderr, folders that are safe to write to."""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsim.errors import InputError, Problem, printable
from archsim.files import unwritable

if TYPE_CHECKING:
    from rich.console import Console

Progress = Callable[[int, int, str], None]
"""Told as work goes on: how much is done, of how much (0 when unknown), and what is at work."""


def print_json(document: Any) -> None:
    """The one JSON document on stdout."""
    unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    print(json.dumps(document, indent=2, allow_nan=False, ensure_ascii=not unicode))


def say(text: str) -> None:
    """A line for people; what a terminal would obey is spelled out."""
    print(printable(text))


def console() -> Console:
    """Where tables for people go; texts are shown as they are."""
    from rich.console import Console

    return Console(
        highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else 160
    )  # a pipe has no width


@contextlib.contextmanager
def progress(what: str) -> Iterator[Progress]:
    """A bar on stderr while the work goes on; nothing where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield lambda done, total, label: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total, label: bar.update(
            task, completed=done, total=total or None, description=printable(label or what)
        )


@contextlib.contextmanager
def output_folder(folder: Path | None, overwrite: bool = False) -> Iterator[None]:
    """Makes the folder before the work starts; takes it away again, if it is new, when the work fails.

    Raises
    ------
    InputError: the folder cannot be written to, or holds something already and ``overwrite`` is False.
    """
    if folder is None:
        yield
        return
    try:
        new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        taken = any(folder.iterdir())
    except (OSError, ValueError) as error:
        raise unwritable(folder, error) from None
    if taken and not overwrite:
        raise InputError([Problem(f"'{folder}' holds files already: name a new folder, or add --overwrite", "--out")])
    try:
        yield
    except BaseException:
        if new:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


def output_file(path: Path | None) -> None:
    """Checks that a file can be written before the work starts."""
    if path is None:
        return
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
        folder = path.is_dir()
    except (OSError, ValueError) as error:
        raise unwritable(path, error) from None
    if folder:
        raise InputError([Problem(f"cannot write '{path}': it is a folder", "--out")])
