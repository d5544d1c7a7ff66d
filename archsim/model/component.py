"""A part of the machine: how long, what it did, how big.

A component is built from a frozen spec. It answers how long work takes and which *actions* the work is made
of; it never keeps a meter. The ledger counts actions, the technology prices them, once, at the end.

Timing answers are vectorised: sizes are ints or int64 arrays (one entry per step or per candidate), and the
answer has the shape they broadcast to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

from archsim.model.technology import Technology
from archsim.sim.timebase import Timebase
from archsim.spec import ComponentSpec
from archsim.workloads.op import Dim, Op

S = TypeVar("S", bound=ComponentSpec)


@dataclass(frozen=True)
class Work:
    """What an engine answers for a piece of work.

    Attributes
    ----------
    cycles: cycles of the engine's own clock, int or int64 array.
    actions: action name to count (int or array of the same shape).
    useful: multiply-accumulates (or elements) that the work needs; utilisation is useful / (peak * cycles).
    detail: facts for the report (tile, folds), not used by the simulation.
    """

    cycles: Dim
    actions: dict[str, Dim] = field(default_factory=dict)
    useful: Dim = 0
    detail: dict[str, Any] = field(default_factory=dict)


class Component(Generic[S]):
    """Base of all parts.

    Parameters
    ----------
    spec: the part's frozen spec.
    path: where it stands in the machine, such as ``chip.mxu``.
    time: the run's timebase.
    clock_hz: its clock, Hz.
    """

    kind: ClassVar[str]
    Spec: ClassVar[type[ComponentSpec]]

    def __init__(self, spec: S, path: str, time: Timebase, clock_hz: int) -> None:
        self.spec = spec
        self.path = path
        self.time = time
        self.clock_hz = clock_hz

    def energy_per_action(self, technology: Technology) -> Mapping[str, float]:
        """Joules of each action this part can report.

        Raises
        ------
        MissingEntry: the technology has no price for one of them; never a silent zero.
        """
        raise NotImplementedError(f"{self.kind} prices no actions")

    def area_mm2(self, technology: Technology) -> Mapping[str, float]:
        """Area of each block of this part, mm²; the part's area is their sum."""
        raise NotImplementedError(f"{self.kind} has no area")

    def leakage_w(self, technology: Technology) -> float:
        """Static power, W."""
        return 0.0


class Engine(Component[S]):
    """A part that computes ops."""

    def supports(self, op: Op) -> bool:
        """True when this engine can compute the op."""
        return False

    def work(self, op: Op) -> Work:
        """Cycles and actions of the op with its operands at hand, over all units of this engine."""
        raise NotImplementedError(f"{self.kind} computes nothing")
