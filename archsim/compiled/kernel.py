"""How the kernels of components that count cycle by cycle are compiled, and where they are kept.

A compiled kernel is kept under a digest of everything it was made of: its code, the code that it calls in any file,
the constants that both read, the types of its arguments, the processor and the compiler. Whatever of these changes,
the kernel has another name and is compiled anew; checkouts with equal sources share what was compiled. The folder is
the user's (``NUMBA_CACHE_DIR`` or the system's cache folder), never the package's.
"""

from __future__ import annotations

import functools
import hashlib
import os
import pickle
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numba import core
from numba.core.caching import _Cache
from numba.misc import appdirs

from archsim.compiled.content import content, type_content
from archsim.compiled.inner import inner

F = TypeVar("F", bound=Callable[..., Any])

_core: Any = core  # numba's inner modules tell no types
_OPTIONS: dict[str, Any] = {"error_model": "numpy", "_nrt": False, "no_cfunc_wrapper": True}
_KEPT = 16
"""compiled versions of a kernel that stay in the cache"""


def kernel(function: F) -> F:
    """A function that allocates nothing, compiled without reference counts: these cost more than its work."""
    return _compiled(function, _OPTIONS)


def routine(function: F) -> F:
    """A function that only kernels call."""
    return cast(F, inner(function, _OPTIONS))


def part(function: F) -> F:
    """A routine, inlined where it is called: passing ten arrays costs more than most parts do."""
    return cast(F, inner(function, {**_OPTIONS, "forceinline": True}))


def allocating_kernel(function: F) -> F:
    """A function that makes arrays of its own."""
    return _compiled(function, {"error_model": "numpy"})


def _compiled(function: F, options: dict[str, Any]) -> F:
    jit: Any = numba.njit(**options)
    compiled: Any = jit(function)
    if isinstance(compiled, _core.dispatcher.Dispatcher):  # not where the compiler is turned off
        compiled._cache = KernelCache(compiled)
    return cast(F, compiled)


class KernelCache(_Cache):
    """The compiled versions of one kernel, a file each; written whole or not at all."""

    def __init__(self, dispatcher: Any) -> None:
        self._dispatcher = dispatcher

    @property
    def cache_path(self) -> str:
        return str(folder())

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled version for these arguments, or None."""
        target_context.refresh()
        try:
            stored = pickle.loads(self._file(sig, target_context.codegen()).read_bytes())
        except (OSError, EOFError, pickle.UnpicklingError):
            return None
        return _core.compiler.CompileResult._rebuild(target_context, *stored)

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled version; where nothing can be written, say so once."""
        if data.library.has_dynamic_globals:
            return  # it holds addresses of this process
        file = self._file(sig, data.codegen)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            _write(file, _core.serialize.dumps(data._reduce()))
            self._forget_old(file.parent)
        except OSError as error:
            _say_once(f"kernels are compiled in every run: {file.parent} cannot be written ({error.strerror})")

    def enable(self) -> None:
        """Always on."""

    def disable(self) -> None:
        """Always on."""

    def flush(self) -> None:
        """Nothing waits to be written."""

    @property
    def _name(self) -> str:
        function = self._dispatcher.py_func
        return f"{function.__module__}.{function.__qualname__}".replace("<", "").replace(">", "")

    def _file(self, sig: Any, codegen: Any) -> Path:
        arguments, _ = _core.sigutils.normalize_signature(sig)
        made_of = (
            content(self._dispatcher),
            [type_content(argument) for argument in arguments],
            codegen.magic_tuple(),
            (sys.implementation.cache_tag, numba.__version__, np.__version__),
            (_core.config.OPT, _core.config.BOUNDSCHECK),
        )
        return folder() / f"{self._name}-{hashlib.sha256(repr(made_of).encode()).hexdigest()[:32]}.kernel"

    def _forget_old(self, where: Path) -> None:
        versions = sorted(where.glob(f"{self._name}-*.kernel"), key=lambda file: file.stat().st_mtime)
        for file in versions[:-_KEPT]:
            file.unlink(missing_ok=True)


def folder() -> Path:
    """Where compiled kernels are kept: ``NUMBA_CACHE_DIR``, or the user's folder for caches."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    if not chosen:
        user: Any = appdirs
        chosen = user.user_cache_dir("archsim", appauthor=False)
        if not os.path.isabs(chosen):  # the variable for caches is set to nothing
            chosen = os.path.expanduser("~/.cache/archsim")
    return Path(chosen) / "kernels"


def _write(file: Path, stored: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=file.parent)
    try:
        with os.fdopen(handle, "wb") as temporary:
            temporary.write(stored)
        os.replace(name, file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@functools.cache
def _say_once(message: str) -> None:
    print(f"archsim: {message}", file=sys.stderr)
