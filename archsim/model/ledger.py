"""Who did what, how often: (component, op, action) to a count; priced once, at the end.

Counts are exact ints, so the energy of a run does not depend on the order in which it was simulated, and one
run can be priced again for another technology.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping

from archsim.errors import InputError
from archsim.model.component import Component
from archsim.model.technology import MissingEntry, Technology
from archsim.spec import ComponentSpec

Prices = Mapping[tuple[str, str], float]

KERNEL_PJ = "kernel_pj"
"""Action of a memory in a kernel whose energy is known as a whole: a picojoule."""

ARITHMETIC_PJ, REGISTERS_PJ = "arithmetic_pj", "registers_pj"
"""Actions of an engine in such a kernel: a picojoule of computing, of its registers, local memories and clocks."""

_PICOJOULES = (KERNEL_PJ, ARITHMETIC_PJ, REGISTERS_PJ)


class Ledger:
    """Counts of actions per op."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, str], int] = defaultdict(int)

    def record(self, component: str, op: str, action: str, count: int) -> None:
        """Add ``count`` actions of a component on behalf of an op."""
        if count:
            self._counts[component, op, action] += count

    def totals(self) -> dict[tuple[str, str], int]:
        """(component, action) to count, over all ops."""
        totals: dict[tuple[str, str], int] = defaultdict(int)
        for (component, _, action), count in self._counts.items():
            totals[component, action] += count
        return dict(sorted(totals.items()))

    def by_op(self) -> dict[str, dict[tuple[str, str], int]]:
        """Op to its (component, action) counts."""
        ops: dict[str, dict[tuple[str, str], int]] = {}
        for (component, op, action), count in self._counts.items():
            ops.setdefault(op, {})[component, action] = count
        return ops


def price_list(
    components: Mapping[str, Component[ComponentSpec]], technology: Technology, actions: set[tuple[str, str]]
) -> Prices:
    """Joules of every action that occurred.

    Raises
    ------
    InputError: an action would take a negative energy.
    MissingEntry: a component prices no such action, or the technology lacks the figure.
    """
    prices: dict[tuple[str, str], float] = {}
    for path in sorted({path for path, _ in actions}):
        listed = components[path].energy_per_action(technology)
        for action in sorted(a for p, a in actions if p == path):
            if action in _PICOJOULES:
                prices[path, action] = 1e-12
                continue
            if action not in listed:
                raise MissingEntry(f"{path} ({components[path].kind}) gives no energy for its action '{action}'")
            if not 0 <= listed[action] < math.inf:
                raise InputError(f"{path}: its action '{action}' would take {listed[action]:g} J")
            prices[path, action] = listed[action]
    return prices
