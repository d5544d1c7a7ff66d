"""Samba-CoE on an SN40L node: the times behind the published speedups, predicted from the hardware."""

from __future__ import annotations

from archsim.runs import run
from archsim.units import MILLI
from archsim.validation.framework import Row, answered


def rows() -> list[Row]:
    """Times of switching, routing and answering; see claims.yaml for how the published ones were recovered."""
    simulated: dict[tuple[str, str], float] = {}
    for output in (20, 200):
        result = run("samba_coe_on_sn40l_node", {"workload.output": output})
        times = {row["segment"]: row["time_s"] / MILLI for row in result.segment_rows()}
        simulated["BS 8", "router"] = times["0.router.prefill"] + times["0.router.decode"]
        simulated["BS 8", f"expert, {output} tokens"] = times["0.0.prefill"] + times["0.0.decode"]
        simulated["BS 8", "switch of one expert"] = next(t for name, t in times.items() if name.endswith("switch"))
    simulated["BS 8", "one decode token"] = (
        simulated["BS 8", "expert, 200 tokens"] - simulated["BS 8", "expert, 20 tokens"]
    ) / 180
    return answered("sn40l", simulated)
