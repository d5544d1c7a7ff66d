"""Things of the registry that are described in a line, such as ``load:requests=32:most=8:start_s=40``."""

from __future__ import annotations

from typing import Any

from archsim import registry
from archsim.config import load_spec, parse_value
from archsim.errors import InputError, shortened, wrong


def described(group: str, text: str, column: str, example: str, kinds: bool = False) -> Any:
    """What is registered under the name that a text begins with: made with the settings behind it where it has a
    ``Spec``, itself else.

    Parameters
    ----------
    column: where it is written. example: how. kinds: whether its ``Spec`` has the name as ``kind``.

    Raises
    ------
    InputError: nothing has that name, or it has no such settings.
    """
    kind, *settings = text.strip().split(":")
    told: dict[str, Any] = {}
    for setting in settings:
        name, is_set, value = setting.partition("=")
        if not is_set or not name.strip():
            raise wrong(column, f"'{shortened(setting)}' is not written like {example}")
        told[name.strip()] = value
    try:
        found = registry.find(group, kind)
        if not hasattr(found, "Spec"):
            if told:
                raise InputError(f"'{kind}' has no settings, such as '{shortened(settings[0])}'")
            return found
        values = {name: parse_value(value) for name, value in told.items()}
        return found(load_spec(({"kind": kind} if kinds else {}) | values, found.Spec))
    except InputError as error:
        said = "; ".join(f"{p.path}: {p.message}" if p.path else p.message for p in error.problems)
        raise wrong(column, said) from None
