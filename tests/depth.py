"""How deep the tests search: ``make test`` draws a share of the examples, ``make test-slow`` all of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

from hypothesis import settings

T = TypeVar("T")

WHOLE = os.environ.get("ARCHSIM_TESTS") == "whole"
_SHARE = 4
"""of the examples that are named, what ``make test`` draws"""


def examples(whole: int) -> int:
    """Examples to draw where ``whole`` are drawn when time is no matter."""
    return whole if WHOLE else max(whole // _SHARE, 5)


def share(cases: Sequence[T], of: int = _SHARE) -> Sequence[T]:
    """Cases to ask: one in so many, all where time is no matter."""
    return cases if WHOLE else cases[::of]


def register() -> None:
    """Tests that name no number of examples draw hypothesis' default, or its share."""
    settings.register_profile("archsim", settings(), max_examples=examples(100), deadline=None)
    settings.load_profile("archsim")
