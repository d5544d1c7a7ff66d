"""Tells when a kernel is compiled, which makes the first answer after an installation slow."""

from __future__ import annotations

from collections.abc import Callable

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


def when_compiling(tell: Callable[[], None]) -> None:
    """Have a function called when the first kernel of this process is compiled, and not when all come from a cache."""
    event.register("numba:compile", _Teller(tell))  # type: ignore[no-untyped-call]
