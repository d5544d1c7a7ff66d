"""Tasks written down one by one: what each rank does on which stream, and what it waits for.

The workload for what no model describes: two collectives at once, a pipeline by hand, a product beside a transfer.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from archsim.errors import InputError
from archsim.spec import Count, Spec, WorkloadSpec
from archsim.units import Bytes, Picoseconds
from archsim.workloads.op import DType, MatMul, Op, Role, Transfer
from archsim.workloads.plan import Holdings, Plan
from archsim.workloads.program import Block, Segment
from archsim.workloads.task import After, GroupCollective, Job, Pause, Ranks, Receive, Send, Task, What

RankNumber = Annotated[int, Field(ge=0, le=2**24)]


class RangeSpec(Spec):
    """Evenly spaced ranks."""

    first: RankNumber = 0
    """the lowest one"""
    count: Count
    """how many"""
    stride: Count = 1
    """from one to the next"""


class ProductSpec(Spec):
    """A product [m, k] x [k, n] of activations and weights."""

    m: Count
    """rows"""
    k: Count
    """inner size"""
    n: Count
    """columns"""
    dtype: DType = DType.BF16
    """format of all three"""


class CopySpec(Spec):
    """A copy between two memories of the chip."""

    bytes: Bytes
    """how much"""
    source: str
    """memory it comes from"""
    target: str
    """memory it goes to"""


class SendSpec(Spec):
    """A message to another rank."""

    to: RankNumber
    """where it goes"""
    bytes: Bytes
    """how much"""
    tag: str = ""
    """which receive it is for, where several are possible"""


class ReceiveSpec(Spec):
    """A message from another rank."""

    source: RankNumber
    """where it comes from"""
    tag: str = ""
    """as its send says"""


class CollectiveSpec(Spec):
    """A collective of a group."""

    op: str
    """all_reduce, all_gather, reduce_scatter, all_to_all or broadcast"""
    bytes: Bytes
    """of a rank: what is reduced, the gathered result, or what it sends to all"""
    group: tuple[RankNumber, ...] | RangeSpec
    """its members"""
    tag: str = ""
    """which one it is, where a group has several at once; the task's name when absent and all of the group do it"""


class AfterSpec(Spec):
    """A task of another rank."""

    rank: RankNumber
    """whose"""
    task: str
    """its name"""


class TaskSpec(Spec):
    """One task; of ``matmul``, ``copy``, ``send``, ``receive``, ``collective`` and ``pause`` it has one."""

    name: str
    """what it is called; unique on its rank, unless it is repeated on its stream"""
    ranks: RankNumber | tuple[RankNumber, ...] | RangeSpec = 0
    """who does it: a rank, several, or a range"""
    stream: str = "main"
    """tasks of a stream follow each other"""
    after: tuple[str | AfterSpec, ...] = ()
    """what must have ended: names of the rank's own tasks, or {rank, task}"""
    repeat: Count = 1
    """how often a product or a copy is done, one after the other"""
    matmul: ProductSpec | None = None
    """a product"""
    copy_of: Annotated[CopySpec | None, Field(alias="copy")] = None
    """a copy between memories"""
    send: SendSpec | None = None
    """a message to another rank"""
    receive: ReceiveSpec | None = None
    """a message from another rank"""
    collective: CollectiveSpec | None = None
    """a collective"""
    pause: Picoseconds | None = None
    """time that passes"""

    @model_validator(mode="after")
    def _one(self) -> TaskSpec:
        said = [self.matmul, self.copy_of, self.send, self.receive, self.collective, self.pause]
        if sum(what is not None for what in said) != 1:
            raise ValueError(f"'{self.name}' is one of matmul, copy, send, receive, collective and pause")
        return self


class TasksSpec(WorkloadSpec):
    """Tasks one by one."""

    kind: Literal["tasks"] = "tasks"
    title: str = "tasks"
    """what they are together"""
    tasks: Annotated[tuple[TaskSpec, ...], Field(min_length=1)]
    """in the order of their streams"""


class TasksWorkload:
    """The tasks of each rank as a job."""

    Spec: ClassVar[type[TasksSpec]] = TasksSpec

    def __init__(self, spec: TasksSpec) -> None:
        self.spec = spec

    def program(self, capacity_bytes: int | None = None, formats: Collection[DType] | None = None) -> Plan:
        """The plan; ``capacity_bytes`` and ``formats`` change nothing.

        Raises
        ------
        InputError: tasks that nothing can begin.
        """
        tasks: list[Task] = []
        weights: dict[int, int] = {}
        live: dict[int, int] = {}
        for spec in self.spec.tasks:
            what = _what(spec)
            for rank in _ranks(spec.ranks):
                after = tuple(After(w) if isinstance(w, str) else After(w.task, w.rank) for w in spec.after)
                tasks.append(Task(rank, spec.stream, spec.name, what, after))
                ops = [op for block in what.blocks for op in block.ops] if isinstance(what, Segment) else []
                weights[rank] = weights.get(rank, 0) + sum(int(op.reads().get(Role.WEIGHT, 0)) for op in ops)
                live[rank] = max(live.get(rank, 0), sum(_live(op) for op in ops))
        job = Job(self.spec.title, tuple(tasks))
        job.check()
        holdings = {rank: Holdings(self.spec.title, {Role.WEIGHT: weights[rank]}, {}, live[rank]) for rank in weights}
        return Plan(self.spec.title, job, holdings)


def _live(op: Op) -> int:
    return int(op.reads().get(Role.ACTIVATION, 0) + op.writes().get(Role.ACTIVATION, 0))


def _ranks(ranks: int | tuple[int, ...] | RangeSpec) -> Ranks:
    if isinstance(ranks, RangeSpec):
        return range(ranks.first, ranks.first + ranks.count * ranks.stride, ranks.stride)
    return (ranks,) if isinstance(ranks, int) else ranks


def _what(spec: TaskSpec) -> What:
    ops: tuple[Any, ...] = ()
    if spec.matmul is not None:
        product, dtype = spec.matmul, spec.matmul.dtype
        ops = (
            MatMul(
                name=spec.name,
                m=product.m,
                k=product.k,
                n=product.n,
                left_dtype=dtype,
                right_dtype=dtype,
                out_dtype=dtype,
            ),
        )
    elif spec.copy_of is not None:
        copy = spec.copy_of
        ops = (Transfer(name=spec.name, bytes=copy.bytes, source=copy.source, destination=copy.target),)
    if ops:
        return Segment(spec.name, (Block(spec.name, ops, spec.repeat),))
    if spec.repeat > 1:
        raise InputError(f"'{spec.name}': products and copies are repeated, nothing else")
    if spec.send is not None:
        return Send(spec.send.to, spec.send.bytes, spec.send.tag)
    if spec.receive is not None:
        return Receive(spec.receive.source, spec.receive.tag)
    if spec.collective is not None:
        group = _ranks(spec.collective.group)
        tag = spec.collective.tag or (spec.name if set(group) == set(_ranks(spec.ranks)) else "")
        return GroupCollective(spec.collective.op, spec.collective.bytes, group, tag)
    return Pause(spec.pause or 0)
