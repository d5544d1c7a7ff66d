"""How the kernels of components that count cycle by cycle are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

F = TypeVar("F", bound=Callable[..., Any])


_OPTIONS: dict[str, Any] = {"cache": True, "error_model": "numpy", "_nrt": False}


def kernel(function: F) -> F:
    """A function that allocates nothing, compiled without reference counts: these cost more than its work."""
    compiled: F = numba.njit(**_OPTIONS)(function)
    return compiled


def part(function: F) -> F:
    """A part of a kernel, compiled into it: passing ten arrays costs more than most parts do."""
    compiled: F = numba.njit(**_OPTIONS, forceinline=True)(function)
    return compiled
