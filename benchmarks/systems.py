"""Machines that are no chips with a program: a data acquisition by rates and by events, a row of servers for weeks."""

from __future__ import annotations

from collections.abc import Iterator

from archsim.components.acquisition.events import by_events
from archsim.components.acquisition.rates import by_rates
from archsim.components.acquisition.spec import AcquisitionSpec, EventsSpec
from archsim.config import load_spec
from archsim.servers.phases import phases
from archsim.servers.row import clocks_hz, play
from archsim.servers.spec import RowSpec
from benchmarks.row import Row, below
from benchmarks.timing import cpu_s


def measure() -> Iterator[Row]:
    """Times with kernels compiled."""
    daq = load_spec("hep_daq_hl_lhc", AcquisitionSpec, {}, category="experiments")
    by_events(daq, EventsSpec(count=1000))
    yield below("CMS's acquisition by rates, any number of events", cpu_s(lambda: by_rates(daq)), 0.01)
    million = EventsSpec(count=10**6)
    yield below("a million events of it", cpu_s(lambda: by_events(daq, million), 1), 10)
    row = load_spec("polca_row", RowSpec, {}, category="experiments")
    clocks = clocks_hz(row, [row.policy])
    of = phases(row, clocks)
    play(row.model_copy(update={"days": 1}), row.policy, of, clocks)
    took = cpu_s(lambda: phases(row, clocks), 1) + cpu_s(lambda: play(row, row.policy, of, clocks), 1)
    yield below("52 servers for six weeks under POLCA, phases included", took, 60)
