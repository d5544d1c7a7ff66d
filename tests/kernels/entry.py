"""Functions that only kernels call, for Python to call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from archsim.compiled.kernel import kernel


def entry(routine: Callable[..., Any]) -> Callable[..., Any]:
    """A kernel that does nothing but to call it."""

    @kernel
    def call(*arguments: Any) -> Any:
        return routine(*arguments)

    return call
