"""How the kernels of this package are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """A function that allocates nothing, compiled without reference counts: these cost more than its work."""
    options: dict[str, Any] = {"cache": True, "error_model": "numpy", "_nrt": False, "forceinline": True}
    compiled: F = numba.njit(**options)(function)
    return compiled
