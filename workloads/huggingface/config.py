"""A Hugging Face ``config.json`` under reading: collects what is missing or wrong, to tell it all at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from archsim.errors import InputError, Problem, nearest, shortened
from archsim.workloads.quantization import read_quantization

Fields = dict[str, Any]

_ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "swiglu": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu",
    "gelu_fast": "gelu",
    "gelu_python": "gelu",
    "gelu_pytorch_tanh": "gelu",
    "relu": "relu",
    "relu2": "relu",
}

_WINDOWED = {
    "sliding_attention": True,
    "chunked_attention": True,
    "full_attention": False,
    "local": True,
    "global": False,
}


class Config:
    """A configuration of one family.

    Attributes
    ----------
    defaults: of the family's class in the ``transformers`` library, for a file that says only what differs.
    notes: to be said with every run of the model.
    """

    def __init__(self, data: Mapping[str, Any], where: str, defaults: Mapping[str, Any] | None = None) -> None:
        self.data, self.where, self.defaults = data, where, defaults or {}
        self.problems: list[Problem] = []
        self.notes: list[str] = []

    def problem(self, key: str, message: str) -> None:
        self.problems.append(Problem(message, file=self.where, path=key))

    def whole(self, *keys: str) -> int:
        """A needed whole number under the first of ``keys`` that is present."""
        for key in keys:
            if (value := self.data.get(key)) is not None:
                return self._whole(key, value)
        for key in keys:
            if key in self.defaults:
                return int(self.defaults[key])
        self.problem(keys[0], f"is missing: a '{self.data.get('model_type', 'model')}' config needs it")
        return 1

    def maybe(self, key: str, default: int) -> int:
        """A whole number, or its default when absent or null."""
        value = self.data.get(key, self.defaults.get(key))
        return default if value is None else self._whole(key, value)

    def _whole(self, key: str, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            self.problem(key, f"{shortened(repr(value))} is no whole number")
            return 1
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self.data.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.problem(key, f"{shortened(repr(value))} is neither true nor false")
            return default
        return value

    def activation(self, default: str, *keys: str) -> str:
        for key in keys:
            if (value := self.data.get(key)) is not None:
                if str(value) not in _ACTIVATIONS:
                    near = nearest(str(value), _ACTIVATIONS)
                    self.problem(key, f"activation '{shortened(value)}' is not supported: {near}")
                    return default
                return _ACTIVATIONS[str(value)]
        return default

    def part(self, key: str) -> Config:
        """A mapping within it; what is wrong there is told here."""
        value = self.data.get(key)
        if not isinstance(value, Mapping):
            if value is not None:
                self.problem(key, "expected a mapping")
            value = {}
        part = Config(value, self.where)
        part.problems = self.problems
        return part

    def refuse(self, key: str, why: str) -> None:
        """Complain of a feature that is switched on and not modelled."""
        self.problem(key, f"{why} not modelled")

    def windows(self, key: str, layers: int, *, default: int = 0, every: int = 0, kinds: object = None) -> Fields:
        """The window and the layers that have it.

        Parameters
        ----------
        key, default: where the window stands, and how wide it is when absent. every: each so-many-th layer sees all
            positions when the file lists no types of layers; 0: none does. kinds: of the layers, where they do not
            stand under ``layer_types``.
        """
        window = self.maybe(key, default)
        listed = self.data.get("layer_types") if kinds is None else kinds
        if isinstance(listed, Sequence) and not isinstance(listed, str):
            strange = sorted({str(kind) for kind in listed} - _WINDOWED.keys())
            if strange:
                self.refuse("layer_types", f"layers of kind '{shortened(strange[0])}' are")
                return {}
            pattern = [_WINDOWED[str(kind)] for kind in listed][:layers]
        else:
            pattern = [not every or (layer + 1) % every != 0 for layer in range(max(every, 1))]
        if not window or not any(pattern):
            return {}
        return {"window": window, "window_layers": _pattern(pattern)}

    def quantization(self, given: object, layers: int, dense: int) -> Fields | None:
        """How weights are stored, of so many layers, the first ``dense`` of which have no experts as the others do."""
        if not isinstance(given, Mapping):
            self.problem("quantization_config", "expected a mapping")
            return None
        try:
            return read_quantization(given, layers, dense)
        except InputError as error:
            for problem in error.problems:
                self.problem(f"quantization_config.{problem.path}", problem.message)
            return None


def _pattern(windowed: Sequence[bool]) -> str | tuple[bool, ...]:
    """The shortest pattern that repeats over the layers."""
    length = next(n for n in range(1, len(windowed) + 1) if all(w == windowed[i % n] for i, w in enumerate(windowed)))
    pattern = tuple(windowed[:length])
    return {(True,): "all", (True, False): "alternate"}.get(pattern, pattern)
