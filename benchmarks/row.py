"""A line of the benchmarks: what was measured beside what is aimed at, and whether that is reached here."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """One measurement.

    Attributes
    ----------
    met: whether the aim is reached, by what ran on this machine; None where nothing is aimed at, or where a peer that
        the aim names did not run.
    """

    what: str
    measured: str
    aim: str = ""
    how: str = ""
    met: bool | None = None


def below(what: str, value: float, limit: float, how: str = "", unit: str = "s", digits: int = 3) -> Row:
    """A time, or a ratio or size in another unit, with the most that it should be."""
    return Row(what, f"{value:.{digits}f} {unit}", f"< {limit:.3g} {unit}", how, value < limit)


def beside(what: str, rate: float, unit: str, peer: Peer, aim: float, how: str = "") -> Row:
    """A rate beside that of a peer, which counts only where the peer ran too."""
    measured, wanted = f"{rate:,.3g} {unit}", f">= {aim:,g}x {peer.name}'s"
    if peer.rate is None:
        return Row(what, measured, wanted, f"not compared: {peer.how}")
    return Row(what, f"{measured}, {rate / peer.rate:,.1f}x", wanted, f"{how}; {peer.how}", rate >= aim * peer.rate)


class Peer(NamedTuple):
    """Another simulator.

    Attributes
    ----------
    rate: what it reached on this machine, in the unit of ours; None where it did not run.
    how: how it ran, or how to give it.
    """

    name: str
    rate: float | None
    how: str
