"""A data acquisition in closed form: rates, bytes and watts of every stage and link, as if nothing ever waited."""

from __future__ import annotations

from dataclasses import dataclass

from archsim.components.acquisition.spec import AcquisitionSpec


@dataclass(frozen=True)
class Stage:
    """A node in steady state.

    Attributes
    ----------
    events_per_s, bytes: that come to it, and of one of them. kept: share that goes on. out_bytes: of one that does.
    operations: for one event. work_w: power of its operations. link_w: power of the link behind it. Watts are scaled.
    """

    name: str
    kind: str
    events_per_s: float
    bytes: float
    kept: float
    out_bytes: float
    operations: float
    work_w: float
    link_w: float

    @property
    def in_bytes_per_s(self) -> float:
        """Bytes that come to it."""
        return self.events_per_s * self.bytes

    @property
    def out_bytes_per_s(self) -> float:
        """Bytes that leave it, what it added with them."""
        return self.events_per_s * self.kept * self.out_bytes


def by_rates(spec: AcquisitionSpec) -> dict[str, Stage]:
    """The stages of an acquisition, by name, in the order of the data.

    A trigger works on an event with what it adds to it.
    """
    divisor = 1.0 if spec.scaling is None else spec.scaling.divisor
    comes: dict[str, tuple[float, float]] = {}  # events a second, bytes of one
    stages: dict[str, Stage] = {}
    for name in spec.order():
        node = spec.nodes[name]
        if node.kind == "source":
            rate, size = float(spec.rate), float(node.bytes or 0) * node.share
        else:
            rate, size = comes[name]
        whole = size + node.adds
        operations = 0.0 if node.operations is None else node.operations.of(whole)
        kept = node.kept if node.kind == "trigger" else 1.0
        link_j = 0.0 if node.link is None else 8 * whole * spec.links[node.link].energy
        stages[name] = Stage(
            name,
            node.kind,
            rate,
            size,
            kept,
            whole,
            operations,
            rate * operations * node.energy / divisor,
            rate * kept * link_j / divisor,
        )
        if node.to is not None:
            before = comes.get(node.to)
            comes[node.to] = (rate * kept, whole + (0.0 if before is None else before[1]))
    return stages


def power_w(stages: dict[str, Stage]) -> float:
    """Of all stages and links."""
    return sum(stage.work_w + stage.link_w for stage in stages.values())


@dataclass(frozen=True)
class Skill:
    """How well the triggers chose, over all of them.

    Attributes
    ----------
    kept_per_s: events that are stored. wanted_per_s: of these, wanted ones. all_wanted_per_s: in the experiment.
    """

    kept_per_s: float
    wanted_per_s: float
    all_wanted_per_s: float

    @property
    def precision(self) -> float:
        """Share of what is stored that is wanted."""
        return self.wanted_per_s / self.kept_per_s

    @property
    def recall(self) -> float:
        """Share of what is wanted that is stored."""
        return self.wanted_per_s / self.all_wanted_per_s

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return 2 * self.precision * self.recall / (self.precision + self.recall)


def skill(spec: AcquisitionSpec) -> Skill | None:
    """How well the triggers chose; None where one of them has no contingency table.

    The table of a later trigger says its rates of wanted and unwanted events, of those that the first one let pass.
    """
    tables = [node.contingency for name in spec.order() if (node := spec.nodes[name]).kind == "trigger"]
    if not tables or any(table is None for table in tables):
        return None
    first = tables[0]
    assert first is not None  # noqa: S101
    total = sum(map(sum, first))
    unwanted, wanted = (spec.rate * (first[0][i] + first[1][i]) / total for i in (0, 1))
    all_wanted = wanted
    for table in tables:
        assert table is not None  # noqa: S101
        columns = [table[0][i] + table[1][i] for i in (0, 1)]
        unwanted *= table[1][0] / columns[0] if columns[0] else 0.0
        wanted *= table[1][1] / columns[1] if columns[1] else 0.0
    if not wanted or not all_wanted:
        return None
    return Skill(wanted + unwanted, wanted, all_wanted)
