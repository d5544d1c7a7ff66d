"""A composition of experts, as SambaNova's SN40L serves it (MICRO 2024): whole models behind a router model.

All experts live in a large slow memory. A batch of prompts first passes the router model. Then, prompt by
prompt, the chosen expert is copied to the fast memory unless it is still there, and answers. Who leaves the fast
memory is a policy's choice, by default the least recently used; experts are read-only and not written back. With
``ahead`` experts are copied while others answer, since the router has named all of a batch.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from archsim.config import Named
from archsim.errors import InputError
from archsim.spec import Count, WorkloadSpec
from archsim.units import si
from archsim.workloads.formats import ANYTHING, MachineFormats
from archsim.workloads.model import ModelSpec
from archsim.workloads.op import DType, Role, Transfer
from archsim.workloads.plan import Holdings, Plan
from archsim.workloads.program import Block, Program, Segment
from archsim.workloads.residency import Outcome, PolicyName, Use, policy_of, replay
from archsim.workloads.task import After, Job, Task
from archsim.workloads.transformer import TransformerWorkload
from archsim.workloads.transformer_spec import TransformerSpec


class CompositionOfExpertsSpec(WorkloadSpec):
    """A router model and many experts of one shape."""

    kind: Literal["composition_of_experts"] = "composition_of_experts"
    expert: Annotated[ModelSpec, Named("models")]
    """shape of every expert"""
    router: Annotated[ModelSpec, Named("models")] | None = None
    """shape of the router; that of the experts when absent"""
    experts: Count
    """experts that prompts are routed to, each equally likely"""
    batch: Count = 1
    """prompts that the router reads together; the experts answer them one after the other"""
    batches: Count = 1
    """batches, one after the other"""
    input: Count
    """tokens of a prompt"""
    output: Count
    """tokens of an answer"""
    router_output: Count = 1
    """tokens in which the router names the expert"""
    first_token: Literal["prefill", "decode"] = "prefill"
    """phase that gives the first token of each answer, as in a workload of kind transformer"""
    tensor_parallel: Count = 1
    """ranks that share every model"""
    dtype: DType = DType.BF16
    resident_experts: Annotated[int, Field(ge=1)] | None = None
    """experts that the fast memory holds; as many as fit when absent"""
    policy: PolicyName = "lru"
    """who leaves the fast memory: lru, lfu, pinned, belady, streaming, or a policy of another package"""
    ahead: Annotated[int, Field(ge=0, le=2**20)] = 0
    """experts that are copied, or on their way, beside the one that answers, within a batch"""
    warm: bool = True
    """the fast memory is full of other experts at the start; else it is empty"""
    source_tier: str = "ddr"
    """memory that holds all experts"""
    destination_tier: str = "hbm"
    """memory that experts run from"""
    seed: Annotated[int, Field(ge=0, le=2**63)] = 0
    """of the choice of experts"""


SWITCH = "switch"
"""Task and stream of copies."""


class CompositionOfExpertsWorkload:
    """Phases: ``router.prefill``, ``router.decode``, ``switch``, ``expert.prefill``, ``expert.decode``."""

    Spec: ClassVar[type[CompositionOfExpertsSpec]] = CompositionOfExpertsSpec

    def __init__(self, spec: CompositionOfExpertsSpec) -> None:
        self.spec = spec

    def _answer(self, model: ModelSpec, batch: int, output: int) -> Program:
        spec = self.spec
        return TransformerWorkload(
            TransformerSpec(
                model=model,
                batch=batch,
                input=spec.input,
                output=output,
                first_token=spec.first_token,
                dtype=spec.dtype,
                tensor_parallel=spec.tensor_parallel,
            )
        ).program()

    def choices(self) -> tuple[int, ...]:
        """The expert of each prompt, in order."""
        spec = self.spec
        rng = np.random.default_rng(spec.seed)
        return tuple(rng.integers(spec.experts, size=spec.batches * spec.batch).tolist())

    def outcomes(self, resident: int) -> list[Outcome]:
        """What the use of each prompt's expert, of one byte, does when the fast memory holds ``resident`` of them."""
        spec = self.spec
        start: list[Use] = []
        if spec.warm:
            rng = np.random.default_rng([spec.seed, 1])
            start = [Use(int(expert), 1) for expert in rng.permutation(spec.experts)[:resident]]
        uses = [Use(expert, 1) for expert in self.choices()]
        return replay(uses, resident, policy_of(spec.policy, uses), start)

    def program(self, capacity_bytes: int | None = None, formats: MachineFormats = ANYTHING) -> Plan:
        """The plan of equal ranks.

        Parameters
        ----------
        capacity_bytes: fast memory of a rank, which says how many experts it holds.
        formats: what the machine computes with; changes nothing.

        Raises
        ------
        InputError: not one expert fits beside the router.
        """
        spec = self.spec
        router = self._answer(spec.router or spec.expert, spec.batch, spec.router_output)
        expert = self._answer(spec.expert, 1, spec.output)
        size, router_size = expert.resident_bytes[Role.WEIGHT], router.resident_bytes[Role.WEIGHT]
        kv = max(router.resident_bytes[Role.KV], expert.resident_bytes[Role.KV])
        live = max(router.activation_bytes, expert.activation_bytes)
        resident = spec.experts
        if spec.resident_experts is not None:
            resident = min(spec.resident_experts, spec.experts)
        elif capacity_bytes is not None:
            resident = min((capacity_bytes - router_size - kv - live) // size, spec.experts)
            if resident < 1:
                raise InputError(
                    f"no expert of {si(size, 'B')} a rank fits beside the router "
                    f"({si(router_size, 'B')}) in {si(capacity_bytes, 'B')}"
                )
        outcomes = self.outcomes(resident)
        tasks = self._tasks(router, expert, size, outcomes)
        missed = sum(outcome.fetched for outcome in outcomes)
        stored = si(spec.experts * size, "B", 4)
        notes = (
            f"{spec.experts} experts of {si(size, 'B', 4)} a rank ({stored} together) are kept in "
            f"{spec.source_tier}; {spec.destination_tier} holds {resident}, and {missed} of "
            f"{len(outcomes)} prompts (seed {spec.seed}) wait for a copy",
            *router.notes,
        )
        name = f"{spec.experts} x {spec.expert.name}"
        held = Holdings(
            name,
            {Role.WEIGHT: router_size + resident * size, Role.KV: kv},
            {spec.source_tier: spec.experts * size},
            live,
        )
        return Plan(name, Job(name, tuple(tasks), {0: range(spec.tensor_parallel)}), {0: held}, notes)

    def _tasks(self, router: Program, expert: Program, size: int, outcomes: list[Outcome]) -> list[Task]:
        """Passes of the router and of experts on one stream, copies on another."""
        spec = self.spec
        transfer = Transfer(name="copy", bytes=size, source=spec.source_tier, destination=spec.destination_tier)
        copy = Segment(SWITCH, (Block(SWITCH, (transfer,)),))
        passes, answer = (
            [replace(segment, name=f"{who}.{segment.name}") for segment in of.segments]
            for who, of in (("router", router), ("expert", expert))
        )
        routed, answered = passes[-1].name, answer[-1].name
        tasks: list[Task] = []
        copies = 0
        for prompt, outcome in enumerate(outcomes):
            batch, turn = divmod(prompt, spec.batch)
            if turn == 0:
                tasks += [Task(0, "compute", segment.name, segment) for segment in passes]
            waits: tuple[After, ...] = ()
            if outcome.fetched:
                # It has a place once who leaves has answered, and is wanted once the router has named it.
                free = max(outcome.since, prompt - 1 - spec.ahead)
                after = (After(routed, back=copies - batch), After(answered, back=copies - free))
                tasks.append(Task(0, SWITCH, SWITCH, copy, after))
                waits = (After(SWITCH, back=prompt - copies),)
                copies += 1
            first, *others = answer
            tasks.append(Task(0, "compute", first.name, first, waits))
            tasks += [Task(0, "compute", segment.name, segment) for segment in others]
        return tasks
