"""Hugging Face: a model's ``config.json``, which archsim reads as it is."""

from __future__ import annotations

import re
from pathlib import Path

from archsim.files import is_file
from archsim.formats import Converted, json_object

NAME = "Hugging Face"
BESIDE = "hf_quant_config.json"
"""Where ModelOpt's older exports say how a model's weights are stored."""
_KEY = re.compile(r'"(model_type|architectures)"\s*:')


def fits(path: Path, head: str) -> bool:
    """Its type or its class."""
    return path.suffix == ".json" and _KEY.search(head) is not None


def read(path: Path) -> Converted:
    """A model."""
    model = json_object(path)
    if "quantization_config" in model or not is_file(path.with_name(BESIDE)):
        return Converted("model", model)
    return Converted("model", model, (f"how its weights are stored stands in {BESIDE}: keep it beside the file",))
