"""Parameter counts of the shipped models, from their shapes."""

from __future__ import annotations

from archsim.config import load_spec
from archsim.validation.framework import FOLDER, Claims, Row, answered
from archsim.workloads.model import ModelSpec
from archsim.workloads.parameters import active_parameters, parameters


def rows() -> list[Row]:
    """A row per published count."""
    simulated: dict[tuple[str, str], float] = {}
    for claim in load_spec(FOLDER / "models" / "claims.yaml", Claims).claims:
        model = load_spec(claim.case, ModelSpec, category="models")
        simulated[claim.case, "parameters"] = parameters(model)["total"]
        simulated[claim.case, "active parameters"] = active_parameters(model)
    return answered("models", simulated)
