"""A run as a trace of MLCommons Chakra: what each rank computes, sends and joins, for ASTRA-sim and other simulators.

Ops of a piece follow each other; computing lasts as long as it did when nothing before it was still running, in whole
microseconds, whose rounding is carried on; its operations and bytes are said beside, for rooflines. Collectives say the
bytes that ASTRA-sim counts: of an all-gather what a rank brings. Groups other than all ranks have a number, which
``NAME.groups.json`` explains.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from archsim.errors import InputError, RunFailed
from archsim.files import cannot_write, write_bytes, write_text
from archsim.result import Result
from archsim.sim.stream import TaskTimes
from archsim.workloads.chakra_schema import framed, message
from archsim.workloads.chakra_trace import COLLECTIVES
from archsim.workloads.dims import first_steps, of_steps
from archsim.workloads.op import Collective, Op
from archsim.workloads.program import Segment
from archsim.workloads.task import GroupCollective, Pause, Ranks, Receive, Send, shifted

_COMPUTE, _SEND, _RECEIVE, _COLLECTIVE = 4, 5, 6, 7
_TYPES = {op: number for number, op in reversed(list(COLLECTIVES.items()))}
_MOST_NODES = 5_000_000
_PS_PER_US = 10**6


def write(result: Result, folder: Path) -> list[Path]:
    """Write a file for each rank, ``NAME.RANK.et``, and one of the groups; their paths.

    Raises
    ------
    InputError: protobuf is not installed, or the run has what a trace cannot say or too many nodes.
    RunFailed: the folder cannot be written to.
    """
    made = _Trace(result)
    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from None
    written: list[Path] = []
    try:
        for rank, data in made.ranks():
            written.append(folder / f"{made.name}.{rank}.et")
            write_bytes(written[-1], data)
        if made.groups:
            written.append(folder / f"{made.name}.groups.json")
            groups = {str(number): list(group) for group, number in made.groups.items()}
            write_text(written[-1], json.dumps(groups))
    except (InputError, RunFailed):
        for path in written:
            path.unlink(missing_ok=True)
        if new:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise
    return written


def _nodes(task: TaskTimes) -> int:
    """Nodes of one execution of a task."""
    return 1 if task.times is None else task.steps * sum(record.copies for record in task.times.ops)


def _one_at_a_time(rank: int, tasks: Sequence[tuple[int, int, int, TaskTimes]]) -> None:
    """Complain of times of several streams that pass at once: a rank computes one node of a trace at a time."""
    until, stream = 0, ""
    for start, end, _, task in sorted(tasks, key=lambda one: one[:2]):
        if not isinstance(task.task.what, Pause) or end == start:
            continue
        if start < until and task.task.stream != stream:
            raise InputError(
                f"streams '{stream}' and '{task.task.stream}' of rank {rank} pass times at once: in a trace of Chakra "
                "a rank does one thing at a time"
            )
        if end > until:
            until, stream = end, task.task.stream


class _Trace:
    """The nodes of all ranks."""

    def __init__(self, result: Result) -> None:
        self.result = result
        self.name = "".join(c if c.isalnum() or c in "-_" else "_" for c in result.name)
        job = result.world.job
        self.classes = {rank: job.members(rank) for rank in dict.fromkeys(job.first_of().values())}
        self.all = tuple(sorted(member for members in self.classes.values() for member in members))
        self.groups: dict[Ranks, int] = {}
        self._of_rank: dict[int, list[tuple[int, int, int, TaskTimes]]] = {rank: [] for rank in self.classes}
        for task in result.world.tasks:
            for number, start, end in task.each():
                self._of_rank[task.task.rank].append((start, end, number, task))
        self._tags: dict[str, int] = {}
        for rank, tasks in self._of_rank.items():
            _one_at_a_time(rank, tasks)
        total = sum(
            len(self.classes[rank]) * sum(_nodes(one[3]) for one in tasks) for rank, tasks in self._of_rank.items()
        )
        if total > _MOST_NODES:
            raise InputError(f"the trace of this run has {total:,} nodes: more than {_MOST_NODES:,} are not written")

    def ranks(self) -> Iterator[tuple[int, bytes]]:
        """Each rank and its file."""
        for first, members in self.classes.items():
            tasks = sorted(self._of_rank[first], key=lambda one: one[:2])  # of equal ones, those that ended first
            for member in members:
                yield member, _File(self, member, members).of(tasks)

    def group(self, ranks: Sequence[int]) -> str:
        """The number of a group, empty for all ranks."""
        key = tuple(ranks)
        if len(key) == len(self.all):
            return ""
        return str(self.groups.setdefault(key, len(self.groups)))

    def tag(self, text: str) -> int:
        """A number for a tag."""
        return self._tags.setdefault(text, len(self._tags))


class _File:
    """The nodes of a rank."""

    def __init__(self, trace: _Trace, rank: int, alike: Ranks) -> None:
        self.trace, self.rank, self.alike = trace, rank, alike
        self.parts = [framed(message("GlobalMetadata")(version="0.0.4").SerializeToString())]
        self.node = message("Node")
        self.count = 0
        self.late_ps = 0
        self.last: dict[str, int] = {}  # of a stream, its last node
        self.ended: dict[tuple[str, int], int] = {}  # of a task's execution, its last node

    def of(self, tasks: Sequence[tuple[int, int, int, TaskTimes]]) -> bytes:
        """The file."""
        for _, _, number, times in tasks:
            task = shifted(times.task, self.rank, self.alike)
            foreign = next((wait for wait in task.after if wait.rank not in (None, self.rank)), None)
            if foreign is not None:
                raise InputError(
                    f"'{task.name}' of rank {self.rank} waits for '{foreign.name}' of rank {foreign.rank}: in a trace "
                    "of Chakra ranks wait for messages alone"
                )
            waits = ((wait.name, number - wait.back) for wait in task.after)
            before = [self.ended[wait] for wait in waits if wait in self.ended]
            match task.what:
                case Segment():
                    self._piece(task.stream, task.what, times, before)
                case Send():
                    values = {"comm_size": task.what.bytes, "comm_dst": task.what.to}
                    self._add(task.stream, task.name, _SEND, before, **values, comm_tag=self.trace.tag(task.what.tag))
                case Receive():
                    values = {"comm_size": self._received(times, task.what), "comm_src": task.what.source}
                    self._add(
                        task.stream, task.name, _RECEIVE, before, **values, comm_tag=self.trace.tag(task.what.tag)
                    )
                case GroupCollective():
                    self._collective(
                        task.stream, task.name, task.what.collective, task.what.bytes, task.what.group, before
                    )
                case Pause():
                    self._compute(task.stream, task.name, task.what.ps, before)
            self.ended[task.name, number] = self.last[task.stream]
        return b"".join(self.parts)

    def _received(self, times: TaskTimes, what: Receive) -> int:
        """Bytes of the message that a receive takes: those of the sends to it, which are alike."""
        job = self.trace.result.world.job
        first = job.first_of().get(what.source, what.source)
        target = times.task.rank
        sizes = {
            one.what.bytes
            for (rank, _), items in job.streams().items()
            if rank == first
            for item in items
            for one in (item.tasks if hasattr(item, "tasks") else (item,))
            if isinstance(one.what, Send) and one.what.tag == what.tag and job.first_of().get(one.what.to) == target
        }
        if len(sizes) != 1:
            raise InputError(f"rank {target} receives messages of several sizes from rank {what.source} under one tag")
        return sizes.pop()

    def _piece(self, stream: str, piece: Segment, times: TaskTimes, before: list[int]) -> None:
        if times.times is None:
            return
        whole = self.trace.result.machine.time.whole_ps
        records = sorted(times.times.ops, key=lambda one: (one.block, one.first, one.op))
        for step in range(times.steps):
            for record in records:
                op = piece.blocks[record.block].ops[record.op]
                exposed = int(of_steps(first_steps(record.exposed, times.steps), times.steps)[step])
                for _ in range(record.copies):
                    self._op(stream, op.at(step) if piece.steps > 1 else op, whole(exposed), before)
                    before = []

    def _op(self, stream: str, op: Op, ps: int, before: list[int]) -> None:
        if isinstance(op, Collective):
            of = self.rank // op.ranks * op.ranks
            self._collective(stream, op.name, op.collective, int(op.bytes), range(of, of + op.ranks), before)
            return
        n_bytes = sum(int(n) for n in (*op.reads().values(), *op.writes().values()))
        self._compute(stream, op.name, ps, before, int(op.flops()), n_bytes)

    def _compute(
        self, stream: str, name: str, ps: int, before: list[int], operations: int = 0, n_bytes: int = 0
    ) -> None:
        micros, self.late_ps = divmod(self.late_ps + ps, _PS_PER_US)
        values = {"num_ops": operations, "tensor_size": n_bytes} if operations else {}
        self._add(stream, name, _COMPUTE, before, micros, **values)

    def _collective(self, stream: str, name: str, op: str, n_bytes: int, group: Ranks, before: list[int]) -> None:
        if op not in _TYPES:
            raise InputError(f"'{name}': a trace of Chakra has no collective for {op}")
        members = len(group)
        if members < 2:
            return self._compute(stream, name, 0, before)
        size = n_bytes // members if op == "all_gather" else n_bytes
        number = self.trace.group(group)
        return self._add(stream, name, _COLLECTIVE, before, comm_type=_TYPES[op], comm_size=size, pg_name=number)

    def _add(self, stream: str, name: str, kind: int, before: Sequence[int], micros: int = 0, **values: Any) -> None:
        node = self.node(id=self.count, name=name, type=kind, duration_micros=micros)
        deps = dict.fromkeys([*([self.last[stream]] if stream in self.last else []), *before])
        node.data_deps.extend(deps)
        node.attr.add(name="is_cpu_op", bool_val=False)
        for key, value in values.items():
            if isinstance(value, str):
                if value:
                    node.attr.add(name=key, string_val=value)
            else:
                node.attr.add(name=key, int64_val=value)
        self.parts.append(framed(node.SerializeToString()))
        self.last[stream] = self.count
        self.count += 1
