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
        rows = {row["segment"]: row for row in result.segment_rows()}
        router, expert = (rows[f"{who}.prefill"]["step_s"] / MILLI for who in ("router", "expert"))
        simulated["BS 8", "router"] = router + rows["router.decode"]["step_s"] / MILLI
        simulated["BS 8", f"expert, {output} tokens"] = expert + output * rows["expert.decode"]["step_s"] / MILLI
        simulated["BS 8", "switch of one expert"] = rows["switch"]["step_s"] / MILLI
    simulated["BS 8", "one decode token"] = (
        simulated["BS 8", "expert, 200 tokens"] - simulated["BS 8", "expert, 20 tokens"]
    ) / 180
    return answered("sn40l", simulated)
