"""Chakra traces as a workload: each node a task of its rank, which begins when what it waits for is over.

Computing takes the time that the trace records, or that a roofline gives to its operations and its tensor, as ASTRA-sim
has it; a rank computes one node at a time, in the order of readiness. Loads and stores follow each other on the way to
the memory. A send is over when it has arrived. A collective begins when the last of its group has come. Nodes of
metadata take no time; what the host computes stands on streams of its own. Streams are chains of nodes that wait for
each other anyway, so that nothing is put in order that the trace leaves open.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Collection, Container, Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Annotated, ClassVar, Literal

from archsim.config import File
from archsim.errors import InputError, Problem
from archsim.spec import Spec, WorkloadSpec
from archsim.units import BytesPerSecond, FlopPerSecond, Picoseconds
from archsim.workloads import chakra_trace
from archsim.workloads.chakra_trace import COLLECTIVES, Node, Trace, read, read_groups
from archsim.workloads.op import DType
from archsim.workloads.plan import Holdings, Plan
from archsim.workloads.recorded import recorded_file
from archsim.workloads.task import After, GroupCollective, Job, Pause, Receive, Send, Task, What

_KINDS = {
    chakra_trace.COMPUTE: "compute",
    chakra_trace.LOAD: "memory",
    chakra_trace.STORE: "memory",
    chakra_trace.SEND: "send",
    chakra_trace.RECEIVE: "receive",
    chakra_trace.COLLECTIVE: "collective",
}
"""Names of streams, of nodes that no host computes."""


def _kind(node: Node) -> str:
    return "host" if node.host else _KINDS[node.kind]


_PS_PER_US, _PS_PER_S = 10**6, 10**12


class RooflineSpec(Spec):
    """What times computing by its operations and bytes."""

    peak: FlopPerSecond
    """operations a second at best"""
    bandwidth: BytesPerSecond
    """of the memory that tensors are read from"""


class RemoteMemorySpec(Spec):
    """What times loads and stores by their bytes."""

    bandwidth: BytesPerSecond
    """bytes a second"""
    latency: Picoseconds = 0
    """of each load and store, before its bytes"""


class ChakraSpec(WorkloadSpec):
    """A trace of all ranks."""

    kind: Literal["chakra"] = "chakra"
    trace: Annotated[str, File("traces")]
    """one rank's file, NAME.0.et or NAME.0.json; those of the others lie beside it"""
    groups: Annotated[str, File("traces")] | None = None
    """file of process groups, {"0": [0, 1]}; a group is the ranks that name it when absent"""
    roofline: RooflineSpec | None = None
    """times nodes that say their operations; what is recorded counts when absent"""
    memory: RemoteMemorySpec | None = None
    """times loads and stores; what is recorded counts when absent"""


class ChakraWorkload:
    """The nodes of a trace as a job."""

    Spec: ClassVar[type[ChakraSpec]] = ChakraSpec

    def __init__(self, spec: ChakraSpec) -> None:
        self.spec = spec

    def program(self, capacity_bytes: int | None = None, formats: Collection[DType] | None = None) -> Plan:
        """The plan; ``capacity_bytes`` and ``formats`` change nothing.

        Raises
        ------
        InputError: the trace cannot be read or played (see :func:`archsim.workloads.chakra_trace.read`).
        """
        groups = read_groups(str(recorded_file(self.spec.groups))) if self.spec.groups else None
        trace = read(str(recorded_file(self.spec.trace)), groups)
        classes = {0: range(trace.ranks)} if _alike(trace) else {rank: (rank,) for rank in range(trace.ranks)}
        job = Job(trace.name, tuple(_Tasks(trace, self.spec).made(classes)), classes)
        if not job.tasks:
            raise InputError([Problem("holds no nodes that are played", self.spec.trace)])
        timed = "by its operations and bytes" if self.spec.roofline else "as long as was recorded"
        notes = [f"computing takes {timed}: the chip's engines and memories are not asked", *trace.notes]
        unsaid = sum(node.kind == chakra_trace.COLLECTIVE and node.collective < 0 for node in trace.nodes)
        if unsaid:
            notes.append(f"{unsaid} collectives whose kind was not recorded take as long as was")
        alone = sum(len(places) == 1 for places in trace.together)
        if alone:
            notes.append(f"{alone} collectives of a rank alone take as long as was recorded: its others are missing")
        return Plan(trace.name, job, {rank: Holdings(trace.name) for rank in classes}, tuple(notes))


def _alike(trace: Trace) -> bool:
    """Whether all ranks have the same nodes, none sends, and collectives are of all: then one stands for all."""
    size, rest = divmod(len(trace.nodes), trace.ranks)
    if rest or trace.sent or any(len(places) < trace.ranks for places in trace.together):
        return False
    if trace.ranks == 1:
        return True
    plain = (node._replace(rank=0, peer=0) for node in trace.nodes)
    first = tuple(itertools.islice(plain, size))
    return all(node == first[number % size] for number, node in enumerate(plain))


class _Tasks:
    """The nodes of a trace as tasks."""

    def __init__(self, trace: Trace, spec: ChakraSpec) -> None:
        self.trace, self.spec = trace, spec
        self._over: dict[int, tuple[int, ...]] = {}  # of a node of metadata, the tasks that it waits for
        self._stream: dict[int, str] = {}
        self._last: dict[tuple[int, str], int] = {}  # of a rank's stream, its last node
        self._streams: Counter[tuple[int, str]] = Counter()
        self._meetings = {place: number for number, places in enumerate(trace.together) for place in places}
        self._names: list[str] = [""] * len(trace.nodes)
        self._groups: dict[tuple[int, ...], tuple[int, ...]] = {}

    def made(self, ranks: Container[int]) -> Iterator[Task]:
        """A task for each node of these ranks that takes time, each stream in an order in which it can be done."""
        nodes = self.trace.nodes
        for place in self.trace.order:
            node = nodes[place]
            if node.rank not in ranks:
                continue
            own = self.trace.own[place]
            before: Sequence[int] = own
            if self._over and own:
                before = tuple(dict.fromkeys(real for other in own for real in self._over.get(other, (other,))))
            if node.kind == chakra_trace.METADATA:
                self._over[place] = tuple(before)
                continue
            stream = self._streamed(node, place, before)
            after = tuple(After(self._names[other]) for other in before if self._stream[other] != stream)
            name = self._names[place] = f"{node.number} {node.name}" if node.name else f"{node.number}"
            yield Task(node.rank, stream, name, self._what(place, node), after)

    def _streamed(self, node: Node, place: int, before: Iterable[int]) -> str:
        """The stream of a node: that of one of its kind that it waits for and nobody has followed, or a new one."""
        rank, kind = node.rank, _kind(node)
        for other in before:
            stream = self._stream[other]
            if self._last[rank, stream] == other and _kind(self.trace.nodes[other]) == kind:
                break
        else:
            number = self._streams[rank, kind] = self._streams[rank, kind] + 1
            stream = kind if number == 1 else f"{kind} {number}"
        self._stream[place], self._last[rank, stream] = stream, place
        return stream

    def _what(self, place: int, node: Node) -> What:
        match node.kind:
            case chakra_trace.COMPUTE:
                return Pause(self._compute_ps(node), "host" if node.host else "compute")
            case chakra_trace.LOAD | chakra_trace.STORE:
                return Pause(self._memory_ps(node), "memory")
            case chakra_trace.SEND:
                return Send(node.peer, node.n_bytes, f"{place}")
            case chakra_trace.RECEIVE:
                return Receive(node.peer, f"{self.trace.sent[place]}")
        if node.collective < 0:
            return Pause(node.duration_us * _PS_PER_US, "network")
        places = self.trace.together[self._meetings[place]]
        if len(places) == 1:  # its others were not recorded
            return Pause(node.duration_us * _PS_PER_US, "network")
        ranks = tuple(self.trace.nodes[other].rank for other in places)
        op = COLLECTIVES[node.collective]
        n_bytes = node.n_bytes * len(ranks) if op == "all_gather" else node.n_bytes
        group = self._groups.setdefault(ranks, ranks)
        return GroupCollective(op, n_bytes, group, f"{self._meetings[place]}")

    def _compute_ps(self, node: Node) -> int:
        roofline = self.spec.roofline
        if roofline is None or not node.operations:
            return node.duration_us * _PS_PER_US
        computing = Fraction(node.operations) / Fraction(roofline.peak)
        return math.ceil(max(computing, Fraction(node.n_bytes, roofline.bandwidth)) * _PS_PER_S)

    def _memory_ps(self, node: Node) -> int:
        memory = self.spec.memory
        if memory is not None:
            return memory.latency + -(-node.n_bytes * _PS_PER_S // memory.bandwidth)
        if not node.duration_us:
            raise InputError(
                f"trace '{self.trace.name}', rank {node.rank}, node {node.number}: a {node.kind} has no duration: say "
                f"'memory: {{bandwidth: ...}}' to time it by its bytes"
            )
        return node.duration_us * _PS_PER_US
