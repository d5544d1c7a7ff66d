"""Questions to a serving engine as benchmarks put them, row by row. The columns say what is asked:

- ``arrival_s``, ``input_toks``, ``output_toks``: requests of an experiment, one a row; rows of one hardware and model
  are one experiment;
- ``workload`` or ``question_len`` with ``stages`` or ``rate_per_s``: stages of constant rate, prompts that share system
  prompts; ``stage`` -1 is the whole;
- ``mean_batch``: a steady state of so many sequences that decode;
- ``isl``, ``osl`` with ``batch_size``: so many requests at a time; or with ``prefill_...`` and ``decode_...``: prompts
  and answers on machines of their own, ``concurrency`` requests at a time among all of their workers;
- ``rate``, ``input``, ``output``, or ``workflow``, or ``trace``: requests as they come.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from archsim.errors import ArchsimError, InputError
from archsim.serving.cases.benchmark import completed
from archsim.serving.cases.case import CUT, Answer, Case, Figures, deployment
from archsim.serving.cases.experiment import experiment, request_of
from archsim.serving.cases.offered import offered
from archsim.serving.cases.stages import stage
from archsim.serving.cases.steady import steady_state
from archsim.serving.cases.together import closed, disaggregated
from archsim.serving.deploy import Deployment


def kind_of(case: Case) -> str:
    """What a row asks for.

    Raises
    ------
    InputError: nothing that is known; says what is.
    """
    has = {name for name, value in case.items() if value not in ("", None)}
    if {"input_toks", "output_toks"} <= has:
        return "requests"
    if "question_len" in has:
        return "stages"
    if "mean_batch" in has:
        return "steady"
    if {"isl", "osl"} <= has:
        parts = any(name.startswith(("prefill_", "decode_")) for name in has)
        return "apart" if parts or str(case.get("mode")) == "disagg" else "together"
    if has & {"trace", "workflow"} or {"input", "output"} <= has:
        return "offered"
    raise InputError(
        "what is asked? input_toks and output_toks of a request; question_len with stages or rate_per_s; mean_batch; "
        "isl and osl; or input and output or a workflow with a rate, or a trace"
    )


def answers(cases: Sequence[Case]) -> list[Answer]:
    """Answers to rows of any kind; those that cannot be answered say why."""
    found: list[Answer | None] = [None] * len(cases)
    groups: dict[object, list[int]] = {}
    for i, case in enumerate(cases):
        try:
            kind = kind_of(case)
        except InputError as error:
            found[i] = error
            continue
        key: tuple[object, ...] = (kind, i)
        if kind == "requests":
            key = (kind, _asked(case, found, i))
        if found[i] is None:
            groups.setdefault(key, []).append(i)
    for kind, mine in _in_order(groups, cases):
        try:
            asked = _KINDS[kind]([cases[i] for i in mine])
        except ArchsimError as error:
            told = error if isinstance(error, InputError) else InputError(str(error))
            asked = [told] * len(mine)
        for i, answer in zip(mine, asked, strict=True):
            found[i] = answer
    return [InputError("is not answered") if answer is None else answer for answer in found]


def _in_order(groups: Mapping[Any, list[int]], cases: Sequence[Case]) -> list[tuple[str, list[int]]]:
    """Groups, those on one deployment one after the other: machines are made once."""
    place: dict[object, int] = {}

    def where(key: Any) -> int:
        case = cases[groups[key][0]]
        names = ("system", "device", "hw", "model", "model_path", "engine", "backend", *CUT)
        return place.setdefault(tuple(str(case.get(name, "")) for name in names), len(place))

    return [(key[0], groups[key]) for key in sorted(groups, key=where)]


def _asked(case: Case, found: list[Answer | None], row: int) -> Deployment | None:
    """What a request is served on; None where something is wrong with it, which is found."""
    try:
        request_of(case)
        return deployment(completed(case)[0], 1)
    except ArchsimError as error:
        found[row] = error if isinstance(error, InputError) else InputError(str(error))
        return None


def _each(of: Callable[[Case], Figures]) -> Callable[[Sequence[Case]], list[Answer]]:
    return lambda cases: [of(case) for case in cases]


_KINDS: dict[str, Callable[[Sequence[Case]], list[Answer]]] = {
    "requests": experiment,
    "stages": _each(stage),
    "steady": _each(steady_state),
    "together": _each(closed),
    "apart": _each(disaggregated),
    "offered": _each(lambda case: offered(case)[0]),
}
