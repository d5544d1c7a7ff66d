"""What a description of a data acquisition may say: nodes that end in storage, and the links between them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from archsim.errors import InputError, Problem, nearest
from archsim.experiment import ExperimentSpec
from archsim.spec import Count, Spec
from archsim.units import Bytes, BytesPerSecond, Hertz, Joules, JoulesPerBit, Picoseconds

Row = tuple[float, float]
Table = tuple[Row, Row]
_ROUNDED = 4
"""Events a second by which counts of a table may miss what they sum to: each is rounded to a whole one."""


class LinkSpec(Spec):
    """A kind of link between nodes."""

    energy: JoulesPerBit
    """of each bit that crosses it"""
    bandwidth: BytesPerSecond | None = None
    """as wide as is needed when absent"""
    latency: Picoseconds = 0
    """from the end of sending until an event is at the other end"""
    buffer: Count | None = None
    """events that may wait for it; what comes when it is full is lost; without bound when absent"""
    source: str = ""
    """where the figures come from"""


class OperationsSpec(Spec):
    """Operations for an event of s bytes: scale x (cubic m^3 + quadratic m^2 + linear m), with m = s / unit."""

    unit: Bytes
    """size in which the polynomial is written"""
    linear: Annotated[float, Field(ge=0)] = 0.0
    quadratic: Annotated[float, Field(ge=0)] = 0.0
    cubic: Annotated[float, Field(ge=0)] = 0.0
    scale: Annotated[float, Field(ge=0)] = 1.0
    """of all terms; 0.5 where another machine takes half"""
    source: str = ""
    """where the figures come from"""

    def of(self, n_bytes: float) -> float:
        """Operations for an event of so many bytes."""
        m = n_bytes / self.unit
        return self.scale * (self.cubic * m**3 + self.quadratic * m**2 + self.linear * m)


class NodeSpec(Spec):
    """A source, a merge, a trigger, or the storage."""

    kind: Literal["source", "merge", "trigger", "storage"]
    """source: makes a fragment of each event; merge: puts them together; trigger: computes, and rejects; storage"""
    to: str | None = None
    """the node that comes after; all but storage have one"""
    link: str | None = None
    """the kind of link to it"""
    bytes: Bytes | None = None
    """of a source: its fragment of an event"""
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """of a source: what is left of the fragment where the sensor itself filters"""
    adds: Bytes = 0
    """of a trigger: what it adds to an event"""
    operations: OperationsSpec | None = None
    """of a trigger: its work on an event"""
    energy: Joules = 0.0
    """of a trigger: for one operation"""
    reduction: Annotated[float, Field(ge=1)] = 1.0
    """of a trigger: it keeps one event of so many"""
    contingency: Table | None = None
    """of a trigger, in place of reduction: events a second as [[true negatives, false negatives], [false positives,
    true positives]]; the first row is rejected. Sums to the events that come, and its columns to those that the trigger
    before kept"""
    units: Count | None = None
    """of a trigger: events that it works on at a time; without bound when absent"""
    time: Picoseconds = 0
    """of a trigger: for one operation"""
    buffer: Count | None = None
    """of a trigger: events that may wait; what comes when it is full is lost; without bound when absent"""
    source: str = ""
    """where the figures come from"""

    @model_validator(mode="after")
    def _check(self) -> NodeSpec:
        if (self.kind == "storage") != (self.to is None) or (self.to is None) != (self.link is None):
            raise ValueError("'to' and 'link' say where events go on; storage alone has neither")
        if (self.kind == "source") != (self.bytes is not None):
            raise ValueError("'bytes' are those of a source's fragment: sources have them, others do not")
        only = {"adds", "operations", "energy", "reduction", "contingency", "units", "time", "buffer"}
        if self.kind != "trigger" and (strange := sorted(only & self.model_fields_set)):
            raise ValueError(f"'{strange[0]}' is a trigger's, and this is a {self.kind}")
        if self.contingency is not None:
            if "reduction" in self.model_fields_set:
                raise ValueError("contingency takes the place of reduction: give one or the other")
            if min(map(min, self.contingency)) < 0 or sum(self.contingency[1]) == 0:
                raise ValueError("contingency counts events: none is negative, and some are kept")
        return self

    @property
    def kept(self) -> float:
        """Share of events that go on."""
        if self.contingency is not None:
            return sum(self.contingency[1]) / sum(map(sum, self.contingency))
        return 1 / self.reduction


def _apart(told: float, wanted: float) -> bool:
    return abs(told - wanted) > max(_ROUNDED, 1e-9 * wanted)


class ScalingSpec(Spec):
    """Energy of all parts by year: divided by exp(per_year x years)."""

    per_year: float
    from_year: int
    to_year: int
    source: str = ""
    """where the figures come from"""

    @property
    def divisor(self) -> float:
        """By what energies are divided."""
        return math.exp(self.per_year * (self.to_year - self.from_year))


class EventsSpec(Spec):
    """Events that are played one by one."""

    count: Annotated[int, Field(ge=1, le=2**26)]
    """events of the experiment"""
    seed: Annotated[int, Field(ge=0, le=2**63)] = 0
    """of what is kept and rejected"""


class AcquisitionSpec(ExperimentSpec):
    """A data acquisition system."""

    kind: Literal["acquisition"] = "acquisition"
    rate: Hertz
    """events of the experiment"""
    links: dict[str, LinkSpec]
    """kinds of links by name"""
    nodes: Annotated[dict[str, NodeSpec], Field(min_length=2)]
    """the nodes by name"""
    scaling: ScalingSpec | None = None
    """to the year that is asked about; none when absent"""
    events: EventsSpec | None = None
    """play events one by one as well: latency, buffers, losses; rates alone when absent"""
    alternatives: dict[str, dict[str, Any] | None] = Field(default={})
    """by name: path to value, such as ``nodes.hlt.operations.scale: 0.5``; each and all combinations are asked by
    rates; null takes an alternative of the config that is extended away"""

    @model_validator(mode="after")
    def _check(self) -> AcquisitionSpec:
        problems = [*self._nodes_problems()]
        if len([node for node in self.nodes.values() if node.kind == "storage"]) != 1:
            problems.append(Problem("expected one storage", path="nodes"))
        if len(self.alternatives) > 6:
            problems.append(Problem("at most 6, for all combinations of them are asked", path="alternatives"))
        if problems:
            raise InputError(problems)
        self.order()
        if problems := [*self._tables_problems()]:
            raise InputError(problems)
        return self

    def _nodes_problems(self) -> Iterator[Problem]:
        """What is wrong with what nodes are joined to."""
        fed = Counter(node.to for node in self.nodes.values())
        for name, node in self.nodes.items():
            if node.to is not None and node.to not in self.nodes:
                said = f"no node is called '{node.to}': {nearest(node.to, self.nodes)}"
                yield Problem(said, path=f"nodes.{name}.to")
            elif node.to is not None and self.nodes[node.to].kind == "source":
                yield Problem(f"'{node.to}' is a source, to which nothing goes", path=f"nodes.{name}.to")
            if node.link is not None and node.link not in self.links:
                said = f"no link is called '{node.link}': {nearest(node.link, self.links)}"
                yield Problem(said, path=f"nodes.{name}.link")
            if node.kind != "source" and not fed[name]:
                yield Problem(f"a {node.kind} without inputs: no node goes to it", path=f"nodes.{name}")
            if node.kind == "trigger" and fed[name] > 1:
                yield Problem("a trigger has one input: put a merge before it", path=f"nodes.{name}")

    def _tables_problems(self) -> Iterator[Problem]:
        """The first contingency table that does not sum to what comes to its trigger."""
        comes: dict[str, tuple[float, tuple[str, Row] | None]] = {}  # events a second; who kept which of them
        for name in self.order():
            node = self.nodes[name]
            rate, before = (float(self.rate), None) if node.kind == "source" else comes[name]
            if node.contingency is not None:
                (tn, fn), (fp, tp) = node.contingency
                unwanted, wanted = columns = tn + fp, fn + tp
                path = f"nodes.{name}.contingency"
                if _apart(sum(columns), rate):
                    said = f"its counts sum to {sum(columns):,.0f} events a second, where {rate:,.0f} come"
                    yield Problem(said, path=path)
                    return
                if before is not None and any(map(_apart, columns, before[1])):
                    kept = "'{}' keeps {:,.0f} unwanted and {:,.0f} wanted events a second".format(
                        before[0], *before[1]
                    )
                    yield Problem(f"its columns sum to {unwanted:,.0f} and {wanted:,.0f}, where {kept}", path=path)
                    return
                before = name, node.contingency[1]
            elif node.kind == "trigger":
                before = None
            if node.to is not None:
                comes[node.to] = rate * node.kept, before

    def order(self) -> list[str]:
        """Nodes, each after all that go to it.

        Raises
        ------
        ValueError: nodes that go to each other in a circle.
        """
        waits = dict.fromkeys(self.nodes, 0)
        for node in self.nodes.values():
            if node.to is not None:
                waits[node.to] += 1
        ready = [name for name, left in waits.items() if not left]
        order: list[str] = []
        while ready:
            name = ready.pop(0)
            order.append(name)
            to = self.nodes[name].to
            if to is not None:
                waits[to] -= 1
                if not waits[to]:
                    ready.append(to)
        circle = [name for name in self.nodes if name not in order]
        if circle:
            raise ValueError(f"nodes: {' -> '.join(circle[:6])} go to each other in a circle")
        return order
