"""Workflows: requests that wait for each other's answers, fork, join, and share what they hold.

A request arrives when all those that it waits for have their last token, a while after it where a tool runs between.
Its prompt may begin with others' tokens, prompts and answers: with those of one, as a chat or a fork does, or with
those of several branches one after the other, as a join does. What branches had in common before they forked stands
there once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Literal

from archsim.errors import InputError, Problem, nearest, shortened
from archsim.workloads.kv_blocks import Branch, Contents
from archsim.workloads.requests import Request, Step

Joins = Literal["recompute", "branches"]
"""What a join finds of its further branches: nothing, for their tokens stand behind others than those that they were
computed behind (a prefix cache); or their keys as they are, which a model must be trained for (Multiverse)."""


@dataclass(frozen=True)
class Asked:
    """A request of a workflow as it is written.

    Attributes
    ----------
    id: its name among those of its workflow. stage: requests of one stage are alike. input, output: tokens of its
    prompt, its context and what is shared among them (or, where they stand ``beside`` it, not), and of its answer.
    arrival_ps: when it comes, where it waits for nobody. after: ids of those whose answers it waits for. gap_ps: from
    the last of these until it arrives. context: ids of those whose tokens are the beginning of its prompt.
    shared: tokens with which all prompts of its stage begin alike, in whatever workflow. line: where it is written.
    """

    workflow: str
    id: str
    stage: str
    input: int
    output: int
    arrival_ps: int = 0
    after: tuple[str, ...] = ()
    gap_ps: int = 0
    context: tuple[str, ...] = ()
    shared: int = 0
    line: int = 0
    beside: bool = False


def linked(asked: Sequence[Asked], joins: Joins = "recompute", file: str = "") -> list[Request]:
    """The requests, by number as they are written, each with its place and with whose tokens it holds.

    Raises
    ------
    InputError: an id that is there twice or not at all, a cycle, a context that is not waited for or does not fit into
        the prompt; file and line are told.
    """
    numbers: dict[tuple[str, str], int] = {}
    for number, one in enumerate(asked):
        if (one.workflow, one.id) in numbers:
            raise _wrong(one, f"workflow '{one.workflow}' has two requests with the id '{one.id}'", file)
        numbers[one.workflow, one.id] = number
    found = _Found(asked, numbers, file)
    after = [found.numbers(one, one.after, "after") for one in asked]
    context = [found.numbers(one, one.context, "context") for one in asked]
    held: dict[int, Contents] = {}
    requests: dict[int, Request] = {}
    for number in _ordered(asked, after, file):
        one = asked[number]
        for other in context[number]:
            if not _waits(number, other, after):
                raise _wrong(one, f"context '{asked[other].id}', whose answer it does not wait for", file)
        runs = _begun(one, [held[other] for other in context[number]], joins)
        before = runs[-1][1] if runs else 0
        tokens = before + one.input if one.beside else one.input
        if before > tokens:
            what = "a context" if context[number] else "what its stage shares,"
            raise _wrong(one, f"{what} of {before:,} tokens does not fit into a prompt of {tokens:,}", file)
        held[number] = (*runs, (("step", number), tokens + one.output))
        step = Step(one.workflow, one.stage, after[number], one.gap_ps)
        contents = (*runs, (("step", number), tokens))
        requests[number] = Request(one.arrival_ps, tokens, one.output, contents, step)
    return [requests[number] for number in range(len(asked))]


class _Found:
    """Numbers of ids; those of equal lists are looked up once, as a round of many branches waits for the one before."""

    def __init__(self, asked: Sequence[Asked], numbers: Mapping[tuple[str, str], int], file: str) -> None:
        self._asked, self._numbers, self._file = asked, numbers, file
        self._known: dict[tuple[str, tuple[str, ...]], tuple[int, ...]] = {}

    def numbers(self, one: Asked, ids: tuple[str, ...], what: str) -> tuple[int, ...]:
        """Of ids that a request names."""
        key = one.workflow, ids
        if key not in self._known:
            self._known[key] = tuple(self._number(one, name, what) for name in dict.fromkeys(ids))
        return self._known[key]

    def _number(self, one: Asked, name: str, what: str) -> int:
        number = self._numbers.get((one.workflow, name))
        if number is None:
            near = nearest(name, [other.id for other in self._asked if other.workflow == one.workflow])
            said = f"{what} '{shortened(name)}', which is no request of workflow '{one.workflow}': {near}"
            raise _wrong(one, said, self._file)
        return number


def _waits(number: int, other: int, after: Sequence[Sequence[int]]) -> bool:
    """Whether a request waits for another one, or for one that does."""
    seen, left = {number}, [number]
    while left:
        before = after[left.pop()]
        if other in before:
            return True
        left += [one for one in before if one not in seen]
        seen.update(before)
    return False


def _wrong(one: Asked, message: str, file: str) -> InputError:
    return InputError([Problem(message, file, one.line, 1 if one.line else 0)])


def _ordered(asked: Sequence[Asked], after: Sequence[Sequence[int]], file: str) -> Sequence[int]:
    """Numbers, each behind those that it waits for; as they are written where that is such an order."""
    if all(max(before, default=-1) < number for number, before in enumerate(after)):
        return range(len(asked))
    try:
        return list(TopologicalSorter(dict(enumerate(after))).static_order())
    except CycleError as error:
        cycle: Sequence[int] = error.args[1]
        ids = " after ".join(f"'{asked[number].id}'" for number in reversed(cycle))
        raise _wrong(asked[cycle[-1]], f"requests wait for each other: {ids}", file) from None


def _begun(one: Asked, contexts: Sequence[Contents], joins: Joins) -> Contents:
    """Whose tokens are the beginning of a prompt: what is shared, or its contexts'."""
    if not contexts:
        return ((("stage", one.stage), one.shared),) if one.shared else ()
    runs = contexts[0]
    for place, context in enumerate(contexts[1:], start=1):
        common = max(_alike(before, context) for before in contexts[:place])
        runs = _joined(runs, context, common, joins)
    return runs


def _alike(one: Contents, other: Contents) -> int:
    """Runs with which both begin."""
    pairs = zip(one, other, strict=False)
    return next((count for count, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _joined(runs: Contents, further: Contents, common: int, joins: Joins) -> Contents:
    """Runs, and behind them those of a further branch but the first ones, which stand there."""
    if runs == further[:common]:  # it goes on from them
        return further
    begin = further[common - 1][1] if common else 0
    at = runs[-1][1]
    for owner, until in further[common:]:
        # Behind others a token has other keys, unless its model was trained to keep them.
        if joins == "recompute":
            owner = ("behind", runs[-1][0], owner)
        elif not isinstance(owner, Branch):
            owner = Branch(owner)
        runs = (*runs, (owner, at + until - begin))
    return runs
