"""What a chip costs to make: a stated model of dies by wafer price, yield and reticle, of memory and of the package."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import Field

from archsim.config import load_spec
from archsim.errors import InputError, nearest
from archsim.machine import ChipSpec, area_tree
from archsim.spec import Spec

Positive = Annotated[float, Field(gt=0)]

_WAFER_MM = 300.0
_EDGE_MM = 3.0
_RETICLE_MM2 = 858.0  # 26 x 33 mm
_STACKED = "HBM"


class CostSpec(Spec):
    """Prices in USD, each with its source."""

    name: str
    """what it is called"""
    wafer_price: dict[str, Positive]
    """of a 300 mm wafer, by technology table"""
    wafer_source: str
    """where it comes from"""
    defects_per_cm2: dict[str, Positive]
    """density, by technology table"""
    defects_source: str
    """where it comes from"""
    memory_price_per_gb: dict[str, Positive]
    """by standard"""
    memory_source: str
    """where it comes from"""
    interposer_price_per_mm2: Positive
    """of silicon under dies and stacks, where memory is stacked"""
    package_price: Positive
    """of a package without an interposer"""
    package_source: str
    """where both come from"""


def cost(chip: ChipSpec) -> list[dict[str, Any]]:
    """Rows of what, how much of it, USD and the rule or source; the last one is the sum.

    Dies larger than a reticle are cut into equal ones; the yield is Murphy's, of dies of which nothing is repaired.

    Raises
    ------
    InputError: no price is known of the chip's technology or memory, or the chip has no area.
    """
    spec = load_spec("costs/chips", CostSpec, category="costs")
    node = chip.technology.name
    if node not in spec.wafer_price:
        raise InputError(f"no price of a wafer of '{node}' is known: {nearest(node, spec.wafer_price)}")
    area = chip.die_area if chip.die_area is not None else area_tree(chip)[1]
    if area <= 0:
        raise InputError(f"no area is known of '{chip.name}': its die cannot be priced")
    count = math.ceil(area / _RETICLE_MM2)
    each = area / count
    whole = _dies_of_wafer(each)
    share = _murphy(each * spec.defects_per_cm2[node] / 100)
    die = count * spec.wafer_price[node] / (whole * share)
    said = "as published" if chip.die_area is not None else "from parts"
    rule = f"{count} x {each:.0f} mm2 {said}; {whole:.0f} of a wafer, {share:.0%} good; {spec.wafer_source}"
    rows = [_row("dies", f"{area:.0f} mm2", die, f"{rule}; {spec.defects_source}")]
    stacked = 0
    for name, memory in chip.memories.items():
        standard = getattr(memory, "standard", "")
        if not standard:
            continue
        key = str(standard).upper()
        if key not in spec.memory_price_per_gb:
            raise InputError(f"no price of {standard} is known: {nearest(key, spec.memory_price_per_gb)}")
        size = getattr(memory, "capacity", 0) / 1e9
        rows.append(_row(name, f"{size:.0f} GB {standard}", size * spec.memory_price_per_gb[key], spec.memory_source))
        stacked += key.startswith(_STACKED)
    package = spec.package_price + (2 * area * spec.interposer_price_per_mm2 if stacked else 0.0)
    rows.append(_row("package", "with an interposer" if stacked else "", package, spec.package_source))
    rows.append(_row("sum", "", sum(row["usd"] for row in rows), "no design, test, margin or board"))
    return rows


def _row(what: str, amount: str, usd: float, source: str) -> dict[str, Any]:
    return {"what": what, "amount": amount, "usd": usd, "source": source}


def _dies_of_wafer(mm2: float) -> float:
    """Whole square dies on a wafer."""
    radius = _WAFER_MM / 2 - _EDGE_MM
    return max(1.0, math.floor(math.pi * radius**2 / mm2 - math.pi * 2 * radius / math.sqrt(2 * mm2)))


def _murphy(defects: float) -> float:
    """Share of dies without a defect, of ``defects`` each on average."""
    return ((1 - math.exp(-defects)) / defects) ** 2
