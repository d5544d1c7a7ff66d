"""Shipped runs, each simulated once for all tests of a process."""

from __future__ import annotations

import functools
import re

import pytest
from _pytest.mark import ParameterSet

import archsim
from archsim.config import CONFIGS
from archsim.result import Result


@functools.cache
def shipped(name: str) -> Result:
    """The answer of a shipped run; tests leave it as it is."""
    return archsim.run(name)


def chips() -> list[ParameterSet]:
    """Every shipped chip as a parameter; variants, which extend another one, are asked by the slow tests alone."""
    files = sorted((CONFIGS / "chips").glob("*.yaml"))
    slow = {path for path in files if re.search(r"^extends:", path.read_text(encoding="utf-8"), re.MULTILINE)}
    return [pytest.param(path.stem, marks=[pytest.mark.slow] if path in slow else []) for path in files]
