"""What a config may say: frozen, typed, closed.

A spec carries no behaviour; a model is built from it. A part of the machine is a spec tagged by ``kind``;
the registry knows which class answers to the tag, so that a part from another package is written and
checked like one of ours.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SerializeAsAny, WithJsonSchema

from archsim import registry
from archsim.units import Hertz

__all__ = ["ANY_KIND", "ComponentSpec", "Count", "Field", "PartSpec", "Share", "Spec", "WorkloadPart", "of_kind"]


class Spec(BaseModel):
    """Base of all specs: unknown keys are errors, values never change, NaN is no number."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        strict=False,
        use_attribute_docstrings=True,
        protected_namespaces=(),
    )


class ComponentSpec(Spec):
    """Base of the specs of hardware parts. ``kind`` selects the part in the registry."""

    kind: str
    """which part this is, such as systolic_array"""
    clock: Hertz | None = None
    """clock of this part; the chip's clock when absent"""
    source: str = ""
    """where the figures come from; 'assumed: ...' with the reason when they are not published"""

    group: ClassVar[str] = "archsim.components"


class WorkloadSpec(Spec):
    """Base of the specs of workloads. ``kind`` selects the workload in the registry."""

    kind: str
    """which workload this is, such as transformer"""

    group: ClassVar[str] = "archsim.workloads"


Count = Annotated[int, Field(ge=1, le=2**40, strict=True)]
"""A number of things: a whole number of at least one."""

Share = Annotated[float, Field(gt=0, le=1)]
"""A fraction in (0, 1]."""


def of_kind(group: str) -> Any:
    """Builds what a mapping's ``kind`` names in a group of the registry."""

    def validate(value: object) -> object:
        if isinstance(value, Spec):
            return value
        if not isinstance(value, dict):
            raise ValueError(f"a part is a mapping with a 'kind', not {value!r}")
        kind = value.get("kind")
        if not isinstance(kind, str):
            raise ValueError("'kind' is missing: it says which part this is; " + registry.known(group))
        return registry.find(group, kind).Spec.model_validate(value)  # its problems keep their own paths

    return BeforeValidator(validate)


ANY_KIND = WithJsonSchema({"type": "object", "required": ["kind"], "properties": {"kind": {"type": "string"}}})
"""What a schema says of them."""

PartSpec = Annotated[SerializeAsAny[ComponentSpec], of_kind(ComponentSpec.group), ANY_KIND]
"""A hardware part of any registered kind."""

WorkloadPart = Annotated[SerializeAsAny[WorkloadSpec], of_kind(WorkloadSpec.group), ANY_KIND]
"""A workload of any registered kind."""
