"""What a compiled kernel is made of, in one digest, wherever it is written.

The compiler takes in a kernel's code, the code that it calls in any file, and the values of the constants that both
read; a comment or a place in a file changes nothing.
"""

from __future__ import annotations

import dis
import enum
import functools
import hashlib
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
from numba.core import types
from numba.core.dispatcher import Dispatcher


@functools.cache
def content(dispatcher: Dispatcher[Any]) -> str:
    """A digest of what a kernel is compiled from, over all files: its code, its options, what it calls and reads."""
    found: dict[Any, int] = {dispatcher: 0}
    digest = hashlib.sha256()
    for each in _made_of(found):
        digest.update(repr(each).encode())
    return digest.hexdigest()


def _made_of(found: dict[Any, int]) -> Iterator[object]:
    """What each function is made of; the functions that it calls join ``found`` and have their turn."""
    turn = 0
    while turn < len(found):
        function = list(found)[turn]
        turn += 1
        if isinstance(function, Dispatcher):
            yield sorted(function.targetoptions.items())
            function = function.py_func
        yield from _code_content(function.__code__)
        yield [_value_content(value, found) for value in (function.__defaults__ or ())]
        yield [_value_content(cell.cell_contents, found) for cell in function.__closure__ or ()]
        for name, value in _globals_read(function):
            yield name, _value_content(value, found)


def _code_content(code: CodeType) -> Iterator[object]:
    yield code.co_code, code.co_names, code.co_varnames, code.co_freevars, code.co_exceptiontable
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _code_content(constant)
        else:
            yield constant


def _globals_read(function: FunctionType) -> Iterator[tuple[str, object]]:
    """Global names of a function with what they stand for; of our modules, the names that it may look up in them."""
    code = function.__code__
    for name in sorted({step.argval for step in dis.get_instructions(code) if step.opname == "LOAD_GLOBAL"}):
        value = function.__globals__.get(name)  # a builtin where it is none
        if isinstance(value, ModuleType) and not _foreign(value.__name__):
            yield from ((f"{name}.{each}", getattr(value, each)) for each in code.co_names if hasattr(value, each))
        else:
            yield name, value


def _foreign(module: str | None) -> bool:
    """Whether a module belongs to the compiler and its library, whose versions say what they hold."""
    return (module or "builtins").partition(".")[0] in ("builtins", "math", "numba", "numpy")


def _value_content(value: object, found: dict[Any, int]) -> object:
    match value:
        case Dispatcher():
            return found.setdefault(value, len(found))
        case FunctionType() if not _foreign(value.__module__):
            return found.setdefault(value, len(found))
        case tuple():
            return type(value).__qualname__, [_value_content(each, found) for each in value]
        case np.ndarray():
            return value.dtype.str, value.shape, hashlib.sha256(value.tobytes()).hexdigest()
        case type():
            return _class_content(value)
        case None | bool() | int() | float() | str() | bytes() | np.generic() | np.dtype() | types.Type():
            return type(value).__qualname__, repr(value)
        case ModuleType():
            return value.__name__
        case _ if callable(value) and _foreign(getattr(value, "__module__", None)):
            return repr(getattr(value, "__name__", value))
    raise TypeError(f"a kernel reads {value!r}, of which no digest can be told")


def _class_content(cls: type) -> object:
    members = [(each.name, each.value) for each in cls] if issubclass(cls, enum.Enum) else []
    return cls.__module__, cls.__qualname__, getattr(cls, "_fields", ()), members


def type_content(argument: Any) -> object:
    """A type in words; with the fields of a named tuple, which its own name leaves out."""
    if isinstance(argument, types.BaseTuple):
        inner: Any = argument
        named = _class_content(inner.instance_class) if isinstance(argument, types.BaseNamedTuple) else None
        return named, [type_content(each) for each in inner.types]
    return repr(argument)
