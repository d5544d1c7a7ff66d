"""Decoding with a draft: a small model guesses some tokens, the large one checks them in one pass.

In a round the draft model decodes ``drafted`` tokens, and the model reads them and the last one of before, at once. Of
guesses each is accepted with the same chance, up to the first that is not; the model itself gives one token more
(Leviathan et al., ICML 2023), so that a round gives (1 - a^(k+1)) / (1 - a) tokens on average. The context is that of
the middle of the answer in all rounds.
"""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from archsim.config import Named
from archsim.spec import Count, WorkloadSpec
from archsim.workloads.formats import ANYTHING, MachineFormats
from archsim.workloads.model import ModelSpec, language_model
from archsim.workloads.op import DType, Role
from archsim.workloads.plan import Holdings, Plan
from archsim.workloads.program import Program, Segment
from archsim.workloads.task import Job, Loop, Task
from archsim.workloads.transformer import TransformerWorkload
from archsim.workloads.transformer_spec import TransformerSpec


class SpeculativeDecodingSpec(WorkloadSpec):
    """A model and one that drafts for it."""

    kind: Literal["speculative_decoding"] = "speculative_decoding"
    model: Annotated[ModelSpec, Named("models")]
    """whose tokens they are"""
    draft: Annotated[ModelSpec, Named("models")]
    """who guesses them"""
    drafted: Count = 4
    """tokens guessed in a round"""
    acceptance: Annotated[float, Field(ge=0, le=1)]
    """chance that a guess is accepted where those before it were"""
    batch: Count = 1
    """sequences"""
    input: Count
    """tokens of context before the answer"""
    output: Count
    """tokens of the answer"""
    dtype: DType = DType.BF16
    """format of both models"""
    tensor_parallel: Count = 1
    """ranks that share both models"""

    @model_validator(mode="after")
    def _decode(self) -> SpeculativeDecodingSpec:
        for model in (self.model, self.draft):
            if model.encoder is not None:
                raise ValueError(f"'{model.name}' is an encoder: decoders give tokens")
            language_model(model)
        return self

    @property
    def tokens_per_round(self) -> float:
        """Tokens that a round gives on average."""
        a, k = self.acceptance, self.drafted
        return float(k + 1) if a == 1 else (1 - a ** (k + 1)) / (1 - a)


class SpeculativeDecodingWorkload:
    """Rounds of phases ``draft`` and ``check``."""

    Spec: ClassVar[type[SpeculativeDecodingSpec]] = SpeculativeDecodingSpec

    def __init__(self, spec: SpeculativeDecodingSpec) -> None:
        self.spec = spec

    def program(self, capacity_bytes: int | None = None, formats: MachineFormats = ANYTHING) -> Plan:
        """The plan of equal ranks; ``capacity_bytes`` changes nothing."""
        spec = self.spec
        rounds = math.ceil(Fraction(spec.output) / Fraction(str(spec.tokens_per_round)))
        context = spec.input + spec.output // 2
        draft = self._program(spec.draft, "decode", context, formats)
        check = self._program(spec.model, "prefill", context + spec.drafted + 1, formats, cached=context)
        pieces = [self._named(draft, "draft", 0), self._named(check, "check", spec.batch)]
        tasks = tuple(Task(0, "compute", piece.name, piece) for piece in pieces)
        name = f"{spec.model.name}, drafted by {spec.draft.name}"
        resident = {
            role: draft.resident_bytes.get(role, 0) + check.resident_bytes.get(role, 0)
            for role in (Role.WEIGHT, Role.KV)
        }
        held = Holdings(name, resident, {}, max(draft.activation_bytes, check.activation_bytes))
        note = (
            f"{rounds} rounds of {spec.drafted} guesses, {spec.tokens_per_round:.4g} tokens each on average, for "
            f"{spec.output} tokens"
        )
        job = Job(name, (Loop(tasks, rounds),), {0: range(spec.tensor_parallel)})
        return Plan(name, job, {0: held}, (note, *draft.notes, *check.notes))

    def _program(
        self,
        model: ModelSpec,
        phase: Literal["decode", "prefill"],
        tokens: int,
        formats: MachineFormats,
        cached: int = 0,
    ) -> Program:
        spec = self.spec
        return TransformerWorkload(
            TransformerSpec(
                model=model,
                phases=(phase,),
                batch=spec.batch,
                input=tokens,
                cached=cached,
                output=spec.drafted if phase == "decode" else None,
                dtype=spec.dtype,
                tensor_parallel=spec.tensor_parallel,
            )
        ).program(None, formats)

    @staticmethod
    def _named(program: Program, name: str, tokens: int) -> Segment:
        """Its one phase; guesses are no tokens yet. Layers of the draft have its name, so that they may live apart."""
        (segment,) = program.segments
        blocks = segment.blocks
        if not tokens:
            blocks = tuple(replace(block, name=f"{name}.{block.name}") for block in blocks)
        return replace(segment, name=name, blocks=blocks, tokens=tokens)
