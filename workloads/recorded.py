"""Where a recorded file is: the path as given, or a trace that ships under that name."""

from __future__ import annotations

from pathlib import Path

from archsim.config import CONFIGS
from archsim.files import is_file


def recorded_file(path: str) -> Path:
    """The file at ``path``, from the working directory; else the shipped trace of that name, where there is one."""
    given = Path(path)
    shipped = CONFIGS / "traces" / path
    return shipped if given.name == path and not is_file(given) and is_file(shipped) else given
