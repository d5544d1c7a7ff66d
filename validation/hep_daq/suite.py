"""Answers the claims by rates, and one of them by events."""

from __future__ import annotations

from typing import Any

from archsim.components.acquisition.acquisition import Acquisition, figures
from archsim.components.acquisition.events import by_events
from archsim.components.acquisition.rates import by_rates
from archsim.components.acquisition.spec import AcquisitionSpec, EventsSpec
from archsim.config import load_spec
from archsim.validation.framework import Row, answered

_NAMES = {
    "gpu_hlt": "GPUs for the HLT",
    "smart_sensors": "smart sensors",
    "gpu_hlt + smart_sensors": "GPUs and smart sensors",
    "gpu_hlt + l1t_tracking": "GPUs and tracking",
    "l1t_tracking": "tracking at level 1",
    "gpu_hlt + smart_sensors + l1t_tracking": "GPUs, smart sensors and tracking",
}
_BASE = "200 collisions, L1T 1 in 53.3"


def rows() -> list[Row]:
    """One row for each claim."""
    said: dict[tuple[str, str], float] = {}

    def told(case: str, answer: dict[str, Any]) -> None:
        said[case, "power"] = answer["power_w"]
        if "productivity_per_kj" in answer:
            for metric in ("productivity", "productivity of the abstract"):
                said[case, metric] = answer["productivity_per_kj"]

    spec = load_spec("hep_daq_hl_lhc", AcquisitionSpec, {}, category="experiments")
    base = figures(spec, by_rates(spec))
    told(_BASE, base)
    for row in Acquisition(spec).alternatives(base["power_w"]):
        if row["alternative"] in _NAMES:
            told(_NAMES[row["alternative"]], row)
            said[_NAMES[row["alternative"]], "power saved"] = row["saved"]
    coarse: dict[str, Any] = {"alternatives": {}}
    for trigger, reduction in (("l1t", 400), ("hlt", 100)):
        coarse |= {f"nodes.{trigger}.contingency": None, f"nodes.{trigger}.reduction": reduction}
    other = load_spec("hep_daq_hl_lhc", AcquisitionSpec, coarse, category="experiments")
    told("200 collisions, L1T 1 in 400", figures(other, by_rates(other)))
    today = load_spec("hep_daq_pile_up_60", AcquisitionSpec, {}, category="experiments")
    told("60 collisions, L1T 1 in 400", figures(today, by_rates(today)))
    said["200 collisions, 4 M events played", "power"] = by_events(spec, EventsSpec(count=4_000_000, seed=1)).power_w
    return answered("hep_daq", said)
