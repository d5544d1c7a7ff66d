"""The engine of the tutorial, as it is printed there, runs."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from archsim import registry
from archsim.runs import run

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial_an_engine.md"


def test_the_tutorial_engine_computes_a_product(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("tutorial")
    monkeypatch.setitem(sys.modules, "tutorial", module)
    for code in re.findall(r"```python\n(.*?)```", TUTORIAL.read_text(encoding="utf-8"), re.S):
        exec(code, vars(module))
    engine = module.OuterProduct
    find = registry.find
    monkeypatch.setattr(registry, "find", lambda group, name: engine if name == engine.kind else find(group, name))
    chip = {
        "name": "tutorial",
        "technology": "n7",
        "clock": "1 GHz",
        "engines": {"grid": {"kind": "outer_product", "rows": 16, "columns": 16}},
        "memories": {"pad": {"kind": "sram", "capacity": "1 MiB", "bandwidth": "1 TB/s"}},
    }
    product = {"name": "g", "m": 40, "k": 100, "n": 32}
    result = run({"name": "t", "chip": chip, "workload": {"kind": "gemm", "dtype": "int8", "gemms": [product]}})
    assert result.op_rows[0]["cycles"] == 3 * 2 * 100
    assert result.ledger.totals()["chip.grid", "mac_int8"] == 40 * 100 * 32
    assert result.area_by_component["chip.grid"] > 0
