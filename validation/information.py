"""Figures of a suite that no source prints: shown in the documents, held against nothing."""

from __future__ import annotations

from typing import NamedTuple


class Figure(NamedTuple):
    """One simulated figure.

    Attributes
    ----------
    case, metric, unit: as in a claim.
    value: what archsim answers.
    remark: why it is shown.
    """

    case: str
    metric: str
    unit: str
    value: float
    remark: str
