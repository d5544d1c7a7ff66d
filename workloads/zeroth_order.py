"""A step of zeroth-order tuning: no gradients, two forward passes on weights moved to both sides.

Layer by layer: weights are moved along a random direction, the layer computes, they are moved to the other side, it
computes again, and they are moved back; the step of before is taken when a layer comes next. Each move draws the
direction anew from its seed, scales it twice and adds it, as MeZO does (Malladi et al., arXiv 2305.17333); ZO2
(arXiv 2503.12668) does all of them while a layer is near. Both passes are timed as one of twice the sequences.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

from pydantic import model_validator

from archsim.config import Named
from archsim.spec import Count, WorkloadSpec
from archsim.workloads.formats import ANYTHING, MachineFormats
from archsim.workloads.model import ModelSpec, language_model
from archsim.workloads.op import DType, Op, Role, Vector
from archsim.workloads.program import Block, Program
from archsim.workloads.tensors import stored_bytes
from archsim.workloads.transformer import TransformerWorkload
from archsim.workloads.transformer_spec import TransformerSpec


class ZerothOrderSpec(WorkloadSpec):
    """One step of tuning a decoder."""

    kind: Literal["zeroth_order_tuning"] = "zeroth_order_tuning"
    model: Annotated[ModelSpec, Named("models")]
    """what is tuned"""
    batch: Count = 1
    """sequences of a step"""
    input: Count
    """tokens of each"""
    dtype: DType = DType.FP16
    """format of weights and activations"""

    @model_validator(mode="after")
    def _decodes(self) -> ZerothOrderSpec:
        if self.model.encoder is not None:
            raise ValueError(f"'{self.model.name}' is an encoder: decoders are tuned so")
        language_model(self.model)
        return self


class ZerothOrderWorkload:
    """The phase ``tuning``."""

    Spec: ClassVar[type[ZerothOrderSpec]] = ZerothOrderSpec

    def __init__(self, spec: ZerothOrderSpec) -> None:
        self.spec = spec

    def program(self, capacity_bytes: int | None = None, formats: MachineFormats = ANYTHING) -> Program:
        """The program; ``capacity_bytes`` changes nothing."""
        spec = self.spec
        both = TransformerSpec(
            model=spec.model, phases=("prefill",), batch=2 * spec.batch, input=spec.input, dtype=spec.dtype
        )
        forward = TransformerWorkload(both).program(None, formats)
        (segment,) = forward.segments
        blocks = tuple(replace(block, ops=tuple(self._ops(block))) for block in segment.blocks)
        resident: dict[Role, int] = {
            role: n_bytes for role, n_bytes in forward.resident_bytes.items() if role is not Role.KV
        }
        segment = replace(segment, name="tuning", blocks=blocks, tokens=spec.batch * spec.input)
        return replace(forward, segments=(segment,), resident_bytes=resident)

    def _ops(self, block: Block) -> Iterator[Op]:
        """Of a layer: the step, moves to both sides, both passes, and the move back."""
        weights = sum(map(stored_bytes, block.ops)) * 8 // self.spec.dtype.bits
        for name in ("step", "one", "other"):
            yield from self._moved(name, weights)
        yield from block.ops
        yield from self._moved("back", weights)

    def _moved(self, name: str, weights: int) -> Iterator[Op]:
        """Weights of a layer moved along a random direction."""
        width = self.spec.model.hidden
        if weights < width:
            return
        for what, function, inputs in (
            ("draw", "normal", 0),
            ("scale", "scale", 1),
            ("size", "scale", 1),
            ("add", "add", 2),
        ):
            yield Vector(
                name=f"{name}.{what}",
                function=function,
                rows=weights // width,
                width=width,
                inputs=inputs,
                dtype=self.spec.dtype,
            )
