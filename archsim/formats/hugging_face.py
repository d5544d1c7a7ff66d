"""Hugging Face: a model's ``config.json``, which archsim reads as it is."""

from __future__ import annotations

import re
from pathlib import Path

from archsim.formats import Converted, json_object

NAME = "Hugging Face"
_KEY = re.compile(r'"(model_type|architectures)"\s*:')


def fits(path: Path, head: str) -> bool:
    """Its type or its class."""
    return path.suffix == ".json" and _KEY.search(head) is not None


def read(path: Path) -> Converted:
    """A model."""
    return Converted("model", json_object(path))
