"""Files in and out, in one place.

What is read is a file (no folder, device or pipe), UTF-8, and no larger than its reader can hold; what is wrong with
it is told with file and line. What is written is there as a whole or not at all, in UTF-8; a disk that is full ends
the command with one line.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import json
import math
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from archsim.errors import ArchsimError, InputError, Problem, RunFailed, shortened

MOST_BYTES = 64 * 2**20
"""of a file that is read as a whole"""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


# --- in ------------------------------------------------------------------------------------------------


def reason(error: BaseException) -> str:
    """What went wrong with a file, in the system's words and without its path."""
    return str(getattr(error, "strerror", None) or error)


def at_home(text: str) -> Path:
    """The path of a text, a ``~`` in front of it being a home; that of nobody is a folder of this name."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def is_file(path: Path) -> bool:
    """Whether a file is there; no path that a system refuses is one."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A file open for reading.

    Raises
    ------
    OSError: it is not there, may not be read, or is a folder, a device or a pipe.
    """
    # Not to wait for whoever writes into a pipe.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(handle, "rb") as stream:
        mode = os.fstat(handle).st_mode
        if not stat.S_ISREG(mode):
            raise OSError(0, "Is a directory" if stat.S_ISDIR(mode) else "it is a device or a pipe, not a file")
        yield stream


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """All of a file.

    Raises
    ------
    InputError: it cannot be read, or is larger than ``most`` bytes.
    """
    try:
        with opened(path) as stream:
            raw = stream.read(most + 1)
    except (OSError, ValueError) as error:
        raise InputError([Problem(f"cannot read it: {reason(error)}", str(path))]) from None
    if len(raw) > most:
        raise InputError([Problem(f"it is too large: more than {_size(most)}", str(path))])
    return raw


def read_text(path: Path, most: int = MOST_BYTES) -> str:
    """All of a file's text; a byte order mark is passed over.

    Raises
    ------
    InputError: as of :func:`read_bytes`; or a byte is no UTF-8, whose place is told.
    """
    raw = read_bytes(path, most)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        line, column = before.count(b"\n") + 1, error.start - (before.rfind(b"\n") + 1) + 1
        raise InputError([Problem(f"no UTF-8 text: byte 0x{raw[error.start]:02x}", str(path), line, column)]) from None


def lines(path: Path, most: int = 2**29) -> Iterator[tuple[int, str]]:
    """The lines of a file with their numbers from 1, one at a time, for files too large to hold twice.

    Raises
    ------
    InputError: it cannot be read, a line is no UTF-8 or longer than 1 MiB, or there are more than ``most`` bytes.
    """
    number = taken = 0
    try:
        with opened(path) as stream:
            while raw := stream.readline(2**20 + 1):
                number += 1
                taken += len(raw)
                if len(raw) > 2**20:
                    raise InputError([Problem("the line is too long: more than 1 MiB", str(path), number, 1)])
                if taken > most:
                    raise InputError([Problem(f"it is too large: more than {_size(most)}", str(path), number, 1)])
                yield number, raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        message = f"no UTF-8 text: byte 0x{error.object[error.start]:02x}"
        raise InputError([Problem(message, str(path), number, error.start + 1)]) from None
    except (OSError, ValueError) as error:
        raise InputError([Problem(f"cannot read it: {reason(error)}", str(path))]) from None


def read_rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """The rows of a CSV file with a header, each with its line; blanks around cells and names do not count.

    Raises
    ------
    InputError: it cannot be read, holds no rows, two columns have one name, or a row has another number of cells than
        the header.
    """
    cells = read_cells(path)
    if not cells:
        raise InputError([Problem("it is empty", str(path))])
    line, header = cells[0]
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise InputError([Problem(f"two columns are called '{shortened(twice)}'", str(path), line, 1)])
    if len(cells) == 1:
        raise InputError([Problem("it holds no rows", str(path))])
    ragged = [
        Problem(f"the row has {len(row)} cells where the header has {len(header)}", str(path), line, 1)
        for line, row in cells[1:]
        if len(row) != len(header)
    ]
    if ragged:
        raise InputError(ragged[:20])
    return [(line, dict(zip(header, row, strict=True))) for line, row in cells[1:]]


def read_cells(path: Path) -> list[tuple[int, list[str]]]:
    """The cells of each line of a CSV file that is not blank, with the line's number."""
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True, skipinitialspace=True)
    found = []
    try:
        for row in reader:
            cells = [_plain(cell.strip()) for cell in row]
            if cells not in ([], [""]):
                found.append((reader.line_num, cells))
    except csv.Error as error:
        raise InputError([Problem(f"no valid CSV: {error}", str(path), reader.line_num, 1)]) from None
    return found


def _plain(cell: str) -> str:
    """A cell as it was before :func:`csv_text` kept a spreadsheet from computing it."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(_FORMULA) else cell


def parse_json(text: str, path: str = "", line: int = 0) -> Any:
    """The data of a JSON text.

    Raises
    ------
    InputError: it is no JSON, nested too deep, or holds a number that is none; ``path`` and ``line`` are told.
    """
    try:
        return json.loads(text, parse_constant=_no_number, parse_float=_finite)
    except json.JSONDecodeError as error:
        place = (line or error.lineno, error.colno) if path else (0, 0)
        raise InputError([Problem(f"no valid JSON: {error.msg}", path, *place)]) from None
    except RecursionError:
        raise InputError([Problem("no valid JSON: nested too deep", path, line, min(line, 1))]) from None
    except ValueError as error:  # a number of thousands of digits
        raise InputError([Problem(f"no valid JSON: {shortened(error)}", path, line, min(line, 1))]) from None


def _no_number(name: str) -> float:
    raise ValueError(f"{shortened(name)} is no number")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _no_number(text)


def _size(n_bytes: int) -> str:
    return f"{n_bytes // 2**20} MiB" if n_bytes >= 2**20 else f"{n_bytes} bytes"


# --- out -----------------------------------------------------------------------------------------------


def cannot_write(path: Path, error: BaseException) -> RunFailed:
    """The error of a file that could not be written."""
    return RunFailed(f"cannot write '{path}': {reason(error)}")


def unwritable(path: Path, error: BaseException, option: str = "--out") -> ArchsimError:
    """The error of a place that cannot be written to: a full disk is nobody's input."""
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
        return cannot_write(path, error)
    return InputError([Problem(f"cannot write to '{path}': {reason(error)}", option)])


@contextlib.contextmanager
def writing(path: Path) -> Iterator[TextIO]:
    """A text to write to, which becomes the file when all of it is written; what is no file is written to at once.

    Raises
    ------
    RunFailed: it cannot be written; the file is what it was before.
    """
    with _replacing(path) as handle, open(handle, "w", encoding="utf-8", newline="") as stream:
        yield stream


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[int]:
    """The descriptor of a new file, to be closed, which takes the place of ``path`` in the end."""
    try:
        target = Path(os.path.realpath(path))
        if target.exists() and not target.is_file():  # a terminal, a pipe
            yield os.open(target, os.O_WRONLY | os.O_CLOEXEC)
            return
        beside = target.with_name(f".{target.name[:200]}.{os.getpid()}.tmp")
        try:
            yield os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
            os.replace(beside, target)
        except BaseException:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
            raise
    except (OSError, ValueError) as error:
        if isinstance(error, InputError | UnicodeError):
            raise
        raise cannot_write(path, error) from None


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file as :func:`write_text` does."""
    with _replacing(path) as handle, open(handle, "wb") as stream:
        stream.write(data)


def write_text(path: Path, text: str) -> None:
    """Write a file: readers see the old one or the new one, never a part."""
    with writing(path) as stream:
        stream.write(text)


def write_texts(folder: Path, texts: Mapping[str, str]) -> None:
    """Write several files of a folder, which is made: all of them are there, or, where that fails, none is new.

    Raises
    ------
    RunFailed: the disk is full or the folder cannot be written to.
    """
    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from None
    try:
        with contextlib.ExitStack() as all_written:
            for name, text in texts.items():
                stream = all_written.enter_context(writing(folder / name))
                stream.write(text)
                stream.flush()  # so that nothing is left to fail when the files take their places
    except BaseException:
        if new:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


def csv_text(rows: Sequence[Mapping[str, Any]], last: str = "") -> str:
    """Rows as CSV, columns in the order in which they first appear, but one the last; absent cells are empty.

    A text that a spreadsheet would compute (``=1+1``) is given a ``'`` in front, which :func:`read_rows` takes away.
    """
    columns = sorted(dict.fromkeys(key for row in rows for key in row), key=lambda name: name == last)
    stream = io.StringIO()
    _write_rows(stream, columns, rows)
    return stream.getvalue()


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows that all have the columns of the first one as CSV, each as it comes, as :func:`write_text` does."""
    with writing(path) as stream:
        _write_rows(stream, list(rows[0]) if rows else [], rows)


def _write_rows(stream: TextIO, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([plain_cell(name) for name in columns])
    writer.writerows([plain_cell(row.get(name)) for name in columns] for row in rows)


def plain_cell(value: Any) -> Any:
    """A cell that a spreadsheet shows as it is and does not compute."""
    if not isinstance(value, str) or not value.startswith(_FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value
