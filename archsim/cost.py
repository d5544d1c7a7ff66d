"""What a chip costs to make: a stated model of dies by wafer price, yield and reticle, of memory and of the package."""

from __future__ import annotations

import math
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from archsim.config import load_spec
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
    """Rows of what, how much of it, USD (None where no price is known) and the rule or source; the last is the sum.

    Without a list of its dies a chip larger than a reticle is cut into equal ones; the yield is Murphy's, of dies of
    which nothing is repaired.
    """
    spec = load_spec("costs/chips", CostSpec, category="costs")
    rows = [_dies(spec, made) for made in _made(chip)]
    stacked = 0
    for name, memory in chip.memories.items():
        standard = getattr(memory, "standard", "")
        if not standard:
            continue
        key = str(standard).upper()
        price = spec.memory_price_per_gb.get(key)
        size = getattr(memory, "capacity", 0) / 1e9
        said = spec.memory_source if price else f"not known: no price of {standard}"
        rows.append(_row(name, f"{size:.0f} GB {standard}", size * price if price else None, said))
        stacked += key.startswith(_STACKED)
    area = sum(made.number * made.each for made in _made(chip))
    package = spec.package_price + (2 * area * spec.interposer_price_per_mm2 if stacked else 0.0)
    rows.append(_row("package", "with an interposer" if stacked else "", package, spec.package_source))
    known = [row["usd"] for row in rows if row["usd"] is not None]
    left = "" if len(known) == len(rows) else "of what is known: "
    rows.append(_row("sum", "", sum(known), f"{left}no design, test, margin or board"))
    return rows


class _Made(NamedTuple):
    """Equal dies: mm2 of each, the process, whether parts with defects are left out, and where the area is from."""

    name: str
    number: int
    each: float
    node: str
    repaired: bool
    said: str


def _made(chip: ChipSpec) -> list[_Made]:
    """Each kind of die."""
    usual = chip.technology.name
    if chip.dies:
        return [_Made(d.name, d.count, d.area, d.technology or usual, d.repaired, "as published") for d in chip.dies]
    area = chip.die_area if chip.die_area is not None else area_tree(chip)[1]
    if area <= 0:
        return []
    count = math.ceil(area / _RETICLE_MM2)
    said = "as published" if chip.die_area is not None else "from parts"
    return [_Made("dies", count, area / count, usual, False, said)]


def _dies(spec: CostSpec, made: _Made) -> dict[str, Any]:
    """The row of equal dies."""
    amount, each = f"{made.number * made.each:.0f} mm2", f"{made.number} x {made.each:.0f} mm2"
    if made.node not in spec.wafer_price:
        return _row(made.name, amount, None, f"not known: no price of a wafer of {made.node}; {each} {made.said}")
    whole = _dies_of_wafer(made.each)
    share = 1.0 if made.repaired else _murphy(made.each * spec.defects_per_cm2[made.node] / 100)
    rule = f"{each} of {made.node} {made.said}; {whole:.0f} of a wafer, {share:.0%} good; {spec.wafer_source}"
    usd = made.number * spec.wafer_price[made.node] / (whole * share)
    return _row(made.name, amount, usd, f"{rule}; {spec.defects_source}")


def _row(what: str, amount: str, usd: float | None, source: str) -> dict[str, Any]:
    return {"what": what, "amount": amount, "usd": usd, "source": source}


def _dies_of_wafer(mm2: float) -> float:
    """Whole square dies on a wafer."""
    radius = _WAFER_MM / 2 - _EDGE_MM
    return max(1.0, math.floor(math.pi * radius**2 / mm2 - math.pi * 2 * radius / math.sqrt(2 * mm2)))


def _murphy(defects: float) -> float:
    """Share of dies without a defect, of ``defects`` each on average."""
    return ((1 - math.exp(-defects)) / defects) ** 2
