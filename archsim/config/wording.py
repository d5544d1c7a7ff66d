"""Values and the checks of pydantic in our words."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from typing import Any

from archsim.errors import shortened


def shown(value: object) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if value is None or isinstance(value, bool):
        return {None: "nothing", True: "true", False: "false"}[value]
    return f"'{shortened(value, 60)}'" if isinstance(value, str) else shortened(repr(value), 60)


_EXPECTED: dict[str, str | Callable[[Mapping[str, Any]], str]] = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "mapping_type": "a mapping",
    "none_required": "nothing",
    "path_type": "the name of a file",
    "greater_than_equal": lambda c: f"at least {c['ge']}",
    "greater_than": lambda c: f"more than {c['gt']}",
    "less_than_equal": lambda c: f"at most {c['le']}",
    "less_than": lambda c: f"less than {c['lt']}",
    "too_short": lambda c: f"at least {c['min_length']} items",
    "too_long": lambda c: f"at most {c['max_length']} items",
    "string_too_short": lambda c: f"text of at least {c['min_length']} characters",
    "string_pattern_mismatch": lambda c: f"text like {c['pattern']}",
    "multiple_of": lambda c: f"a multiple of {c['multiple_of']}",
    "literal_error": lambda c: c["expected"],
    "enum": lambda c: c["expected"],
}


def worded(detail: Any) -> str:
    """pydantic's message in our words."""
    kind, context, value = detail["type"], detail.get("ctx", {}), detail["input"]
    if kind in ("value_error", "assertion_error"):
        return str(context["error"])
    expected = _EXPECTED.get(kind)
    if expected is None:
        return str(detail["msg"]).replace("Input should be", "expected")
    message = f"expected {expected if isinstance(expected, str) else expected(context)}, not {shown(value)}"
    if kind in ("literal_error", "enum") and isinstance(value, str):
        names = re.findall(r"'([^']*)'", context["expected"])
        close = difflib.get_close_matches(value, names, n=1, cutoff=0.5)
        message += f": did you mean '{close[0]}'?" if close else ""
    return message
