"""A result in a notebook: totals and the tables that fit a cell."""

from __future__ import annotations

from archsim.result import Result
from archsim.units import si


def to_html(result: Result) -> str:
    """A fragment of HTML."""
    import pandas as pd

    kinds = pd.DataFrame(result.kind_rows())
    parts = pd.DataFrame(result.component_rows()).drop(columns=["critical_s"])
    return (f"<h4>{result.name}</h4><p>{si(result.time_s, 's', 4)}, {si(result.energy_j, 'J', 4)}, "
            f"{result.area_mm2:,.1f} mm², bound by {result.bound_by}</p>"
            f"{kinds.to_html(index=False, float_format='{:.4g}'.format)}"
            f"{parts.to_html(index=False, float_format='{:.4g}'.format)}")
