"""Tells when a kernel is compiled, which makes the first answer after an installation slow."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from numba.core import event


class _Teller(event.Listener):
    """Calls a function at the first compilation."""

    def __init__(self, tell: Callable[[], None]) -> None:
        self._left = [tell]

    def on_start(self, event: event.Event) -> None:
        """A kernel that no cache holds is about to be compiled."""
        while self._left:
            self._left.pop()()

    def on_end(self, event: event.Event) -> None:
        """It has been."""


@contextlib.contextmanager
def when_compiling(tell: Callable[[], None]) -> Iterator[None]:
    """Within it, a function is called when a first kernel is compiled, and not where all come from a cache."""
    with event.install_listener("numba:compile", _Teller(tell)):
        yield
