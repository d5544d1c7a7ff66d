"""Functions that stand only within kernels: linked into each that calls them, and optimised there, not by themselves.

The compiler makes of every function a library of its own, optimised and turned into machine code, before it links it
into the callers and optimises it again there. Of a function that Python never calls that is half of all the time that
compiling takes, and nothing of it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import numba
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler

_Library: Any = JITCodeLibrary  # numba's inner modules tell no types
_Compiler: Any = Compiler


class _LinkedLibrary(_Library):  # type: ignore[misc]  # its base is untyped
    """Code to link into others: as it was lowered, without an address."""

    def _optimize_final_module(self) -> None:
        """Those it is linked into are."""

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        return 0

    @property
    def codegen(self) -> _LinkedLibrary:
        """Itself: what is linked has no environment to set."""
        return self

    def set_env(self, env_name: str, env: object) -> None:
        """Nothing to set."""


class _LinkedCompiler(_Compiler):  # type: ignore[misc]  # its base is untyped
    """The compiler, up to machine code."""

    def define_pipelines(self) -> Any:
        state = self.state
        state.library = _LinkedLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        return super().define_pipelines()


def inner(function: Callable[..., Any], options: dict[str, Any]) -> Any:
    """A function for kernels to call; a call from Python is an error."""
    jit: Any = numba.njit
    dispatcher: Any = jit(**options, no_cpython_wrapper=True, pipeline_class=_LinkedCompiler)(function)

    def refuse(*_: object, **__: object) -> NoReturn:
        raise TypeError(f"{function.__qualname__} stands only within kernels")

    def keep(compiled: Any) -> None:
        dispatcher.overloads[tuple(compiled.signature.args)] = compiled  # and not among those that Python may call

    if dispatcher is not function:  # it is where the compiler is turned off
        dispatcher._compile_for_args, dispatcher.add_overload = refuse, keep
    return dispatcher
