"""Time: clock edges are exact, nothing drifts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archsim.errors import InputError
from archsim.timebase import ClockDomain, Timebase

clock = st.sampled_from([10**9, 1_050_000_000, 940_000_000, 1_755_000_000, 333_000_000])


@given(clock, clock, st.integers(0, 10**12))
def test_cycles_are_exact_and_add_up(f, g, n):
    time = Timebase([f, g])
    assert time.cycles(n, f) * f == n * time.ticks_per_s
    assert time.cycles(n, f) + time.cycles(7, f) == time.cycles(n + 7, f)
    assert time.to_cycles(time.cycles(n, f), f) == n


def test_a_round_clock_counts_picoseconds():
    assert Timebase([10**9]).ticks_per_s == 10**12
    assert Timebase([1_050_000_000]).ticks_per_s == 21 * 10**12


def test_an_odd_clock_keeps_its_edges_and_rounds_picoseconds_up():
    time = Timebase([1_818_181_818])
    assert time.cycles(1_818_181_818, 1_818_181_818) == time.ticks_per_s
    assert time.ps(1) >= 1


def test_clocks_without_a_common_timebase_are_refused():
    with pytest.raises(InputError, match="no common timebase"):
        Timebase([1_818_181_818, 1_333_333_333])


@given(st.integers(0, 10**9), st.integers(1, 10**12))
def test_a_transfer_is_rounded_up_once(n_bytes, bandwidth):
    time = Timebase([10**9])
    ticks = time.transfer(n_bytes, bandwidth)
    assert (ticks - 1) * bandwidth < n_bytes * time.ticks_per_s <= ticks * bandwidth or n_bytes == 0 == ticks


def test_transfers_of_many_sizes_are_those_one_by_one():
    time = Timebase([1_050_000_000])
    sizes = np.array([0, 1, 63, 10**6, 10**13], dtype=np.int64)
    assert time.transfer(sizes, 552_600_000_000).tolist() == [time.transfer(int(s), 552_600_000_000) for s in sizes]


@given(clock, st.integers(0, 10**7))
def test_edges_do_not_drift(f, n):
    domain = ClockDomain(f)
    assert domain.edge_ps(n) == -(-n * 10**12 // f)
    assert domain.cycle_at(domain.edge_ps(n)) == n
    assert domain.cycle_at(domain.edge_ps(n) + 1) == n + 1
