"""Area by block, from parts: the published block areas of a chip are taken away and the model's own stand in."""

from __future__ import annotations

from archsim.config import dump, load_spec
from archsim.machine import ChipSpec, Machine, SystemSpec
from archsim.validation.framework import Row, answered


def rows() -> list[Row]:
    """A row per published block, and per chip the sum of the blocks that are modelled."""
    simulated: dict[tuple[str, str], float] = {}
    for chip in ("tpu_v4i", "tpu_v1"):
        areas = from_parts(chip)
        for path, area in areas.items():
            simulated[chip, path.removeprefix("chip.")] = area
        named = {"tpu_v4i": ("mxu", "vmem", "cmem"), "tpu_v1": ("mxu", "unified_buffer", "accumulators")}[chip]
        simulated[chip, "sum of these blocks"] = sum(simulated[chip, name] for name in named)
    for chip in ("a100_sxm", "mi210", "h100_sxm"):
        blocks = [
            (block, area)
            for _, block, area in Machine(
                SystemSpec(name=chip, chip=load_spec(chip, ChipSpec, category="chips"))
            ).areas()
        ]
        simulated |= {(chip, block): area for block, area in blocks}
        simulated[chip, "die"] = sum(area for _, area in blocks)
    return answered("area", simulated)


def from_parts(chip: str) -> dict[str, float]:
    """Component path to mm², no published area used."""
    published = dump(load_spec(chip, ChipSpec, category="chips"))
    for group in ("engines", "memories"):
        for part in published[group].values():
            for key in ("pe_area", "lane_area", "area_per_mib", "phy_area", "controller_area"):
                part.pop(key, None)
    spec = load_spec(published, ChipSpec)
    areas: dict[str, float] = {}
    for path, _, area in Machine(SystemSpec(name=chip, chip=spec)).areas():
        areas[path] = areas.get(path, 0.0) + area
    return areas
