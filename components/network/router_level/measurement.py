"""Latency and throughput of a router network under a steady load, measured the way BookSim measures.

Sample periods warm the network up, then periods count until latency and throughput have settled three times in a row;
packets made while counting are followed to their end. A load is unstable when packets need more than a threshold on
average, or never settle.
"""

from __future__ import annotations

from dataclasses import dataclass

from archsim.components.network.router_level import kernel
from archsim.components.network.router_level.fabric import Fabric
from archsim.components.network.router_level.state import MEASURED, RouterSpec, State, new_state
from archsim.components.network.router_level.traffic import Traffic
from archsim.errors import InputError
from archsim.spec import Count, Spec


class MeasurementSpec(Spec):
    """How long to measure, and when to give up."""

    sample_period: Count = 1000
    """cycles of a sample period"""
    warmup_periods: Count = 3
    """periods before counting begins"""
    max_periods: Count = 10
    """periods after which a load that has not settled is unstable"""
    latency_threshold: float = 500.0
    """cycles of mean latency above which a load is unstable"""
    settled: float = 0.05
    """largest relative change of latency and throughput from period to period that counts as settled"""


@dataclass(frozen=True)
class Measured:
    """What a network under load came to; latencies in cycles, None where the load is unstable.

    Attributes
    ----------
    packet_latency: from the making of a packet until its last flit arrives; ``network_latency`` from its injection.
    flit_latency: from injection until arrival, over all flits.
    accepted: flits that a node takes in a cycle.
    hops: routers on the way. cycles: simulated in all.
    """

    stable: bool
    cycles: int
    packet_latency: float | None = None
    network_latency: float | None = None
    flit_latency: float | None = None
    packet_latency_max: int | None = None
    accepted: float | None = None
    hops: float | None = None


def measure(
    fabric: Fabric,
    router: RouterSpec,
    traffic: Traffic,
    injection: float,
    packet_flits: int = 1,
    seed: int = 1,
    how: MeasurementSpec | None = None,
) -> Measured:
    """Measure one load.

    Parameters
    ----------
    injection: flits that a node makes in a cycle, in (0, 1]; in packets of ``packet_flits``.
    """
    how = how or MeasurementSpec()
    if not 0 < injection <= 1:
        raise InputError(f"a node makes more than 0 and at most 1 flit in a cycle, not {injection}")
    if packet_flits < 1:
        raise InputError(f"a packet has at least one flit, not {packet_flits}")
    s = new_state(fabric, router, traffic, packet_flits, injection / packet_flits, seed)
    totals = s.totals
    last_latency, last_accepted, settled, since = 0.0, 0.0, 0, 0
    clear = False
    for period in range(how.max_periods):
        if clear or (totals.warming and period % 2 == 0):
            clear = False
            _clear(s)
            since = int(totals.time)
        kernel.advance(s, how.sample_period, False, False)
        time = int(totals.time)
        packets, total = int(totals.packets), int(totals.latency)
        latency = total / packets if packets else float("nan")
        accepted = int(totals.accepted) / (time - since) / fabric.nodes
        steady = packets > 0 and accepted > 0
        steady = steady and not abs(latency - last_latency) / latency > how.settled
        steady = steady and not abs(accepted - last_accepted) / accepted > how.settled
        last_latency, last_accepted = latency, accepted
        if _too_slow(s, how):
            return Measured(False, time)
        if totals.warming:
            if period + 1 >= how.warmup_periods:
                clear = True
                totals.warming, totals.measuring = 0, 1
        else:
            settled = settled + 1 if steady else 0
            if settled == 3:
                break
    if totals.warming:
        return Measured(False, int(totals.time))
    end = int(totals.time)
    totals.measuring, totals.end = 0, end
    while totals.counted_left or totals.done < fabric.nodes:
        kernel.advance(s, 1000, True, False)
        if (int(totals.time) - end) % 1000 == 0 and _too_slow(s, how):
            return Measured(False, int(totals.time))
    totals.injecting = 0
    while totals.in_flight or totals.credits:
        kernel.advance(s, 1000, False, True)
    packets, flits = int(totals.packets), int(totals.flits)
    if not packets:
        return Measured(False, int(totals.time))
    return Measured(
        True,
        int(totals.time),
        int(totals.latency) / packets,
        int(totals.network_latency) / packets,
        int(totals.flit_latency) / flits,
        int(totals.latency_max),
        int(totals.accepted) / (end - since) / fabric.nodes,
        int(totals.hop_sum) / packets,
    )


def _clear(s: State) -> None:
    for name in MEASURED.split():
        s.totals[name] = 0


def _too_slow(s: State, how: MeasurementSpec) -> bool:
    """Whether packets counted and flits under way are, on average, older than the threshold."""
    totals = s.totals
    under_way = int(totals.in_flight)
    age = int(totals.latency) + under_way * int(totals.time) - int(totals.born_sum)
    count = int(totals.packets) + under_way
    return count > 0 and age / count > how.latency_threshold
