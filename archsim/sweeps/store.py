"""The folder of a sweep: one file a point, each written as a whole or not at all."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from archsim import __version__, files
from archsim.errors import InputError, Problem
from archsim.sweeps.work import Record


class Store:
    """Where records are kept; with no folder, nowhere."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        if folder is None:
            return
        try:
            if folder.is_dir() and any(folder.iterdir()) and not (folder / "points").is_dir():
                raise InputError([Problem(f"'{folder}' holds files and no sweep: name another", "--out")])
            (folder / "points").mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder / "points"):
                pass
        except InputError:
            raise
        except (OSError, ValueError) as error:
            raise files.unwritable(folder, error) from None

    def read(self, key: str) -> Record | None:
        """The record of a point, None if there is none or another version made it."""
        if self.folder is None:
            return None
        try:
            data = files.parse_json(files.read_text(self.folder / "points" / f"{key}.json"))
        except InputError:
            return None
        if not isinstance(data, dict) or data.get("version") != __version__:
            return None
        result, error = data.get("result"), data.get("error")
        return Record(key, result, error) if isinstance(result, dict) and isinstance(error, str) else None

    def write(self, record: Record) -> None:
        """Keep the record of a point."""
        self.write_json(
            f"points/{record.key}.json", {"version": __version__, "error": record.error, "result": record.result}
        )

    def write_json(self, name: str, data: Any) -> None:
        """Write a file of the folder."""
        self.write_text(name, json.dumps(data, indent=1, allow_nan=False) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Write a file of the folder: readers see the old one or the new one, never a part."""
        if self.folder is not None:
            files.write_text(self.folder / name, text)
