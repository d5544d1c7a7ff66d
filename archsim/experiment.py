"""Runs of machines that are no chips with a program: described by a ``kind`` of their own, found through the registry.

A package adds one with a line of its pyproject.toml, under ``archsim.experiments``. Its class has a ``Spec`` (a
:class:`ExperimentSpec`) and, made from one, a method ``findings``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from archsim import registry
from archsim.config import Source, load_spec, load_tree, shipped
from archsim.spec import Spec

GROUP = "archsim.experiments"
Rows = Sequence[Mapping[str, Any]]


class ExperimentSpec(Spec):
    """What all of them say."""

    name: str
    """what it is called"""
    kind: str
    """which experiment this is, such as acquisition"""
    notes: str = ""
    """what it shows"""
    source: str = ""
    """where the set-up is published"""


@dataclass(frozen=True)
class Findings:
    """What came out.

    Attributes
    ----------
    lines: for people, the first ones of all. tables: rows by title. document: for machines. pictures: SVG by name.
    """

    spec: ExperimentSpec
    lines: Sequence[str]
    tables: Mapping[str, Rows]
    document: Mapping[str, Any]
    pictures: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The document with the name of the experiment."""
        return {"name": self.spec.name, "kind": self.spec.kind, **self.document}


class Experiment(Protocol):
    """One kind of experiment."""

    Spec: ClassVar[type[ExperimentSpec]]

    def findings(self, progress: Callable[[str], None] | None = None) -> Findings:
        """Carry it out."""


def experiment_spec(source: Source, overrides: Mapping[str, Any]) -> ExperimentSpec | None:
    """The checked description of an experiment; None when the source describes a run of a machine and a program.

    Raises
    ------
    InputError: its kind is not known, or it is not well described.
    """
    category = "experiments" if isinstance(source, str) and source in shipped("experiments") else "runs"
    tree = load_tree(source, category=category)
    kind = tree.value.get("kind") if isinstance(tree.value, dict) else None
    if kind is None:
        return None
    known: type[ExperimentSpec] = registry.find(GROUP, str(kind.value)).Spec
    return load_spec(source, known, overrides, category=category)


def carried_out(spec: ExperimentSpec, progress: Callable[[str], None] | None = None) -> Findings:
    """The findings of an experiment."""
    experiment: Experiment = registry.find(GROUP, spec.kind)(spec)
    return experiment.findings(progress)
