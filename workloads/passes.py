"""Passes of sequences through a model: what is prefilled together, and what is decoded from step to step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from archsim.errors import InputError
from archsim.workloads.dims import Dim, maximum
from archsim.workloads.op import Attention
from archsim.workloads.ragged import Ragged
from archsim.workloads.recurrence import Recurrence
from archsim.workloads.requests import Request

_MOST_STEPS = 2**22


@dataclass(frozen=True)
class Pass:
    """One pass through the layers on one rank.

    Attributes
    ----------
    name: of its segment. phase: number of its routing draw.
    batch, q_len, kv_len: sequences, new tokens of each, and keys that they see; at most, where lengths differ.
    ragged: sequences of different lengths.
    absorbed: latent attention works in the latent space. drafting: the prediction layer runs too.
    produced: tokens of one step of all ranks, where they are not the tokens computed.
    group: new tokens of all ranks that share experts, where others have fewer; 0: each has as many.
    """

    name: str
    phase: int
    batch: int
    q_len: int
    kv_len: Dim
    ragged: Ragged | None = None
    steps: int = 1
    absorbed: bool = False
    drafting: bool = False
    produced: int | None = None
    group: int = 0

    @staticmethod
    def of(name: str, phase: int, ragged: Ragged, absorbed: bool = False) -> Pass:
        """A pass of recorded sequences; equal ones that all live as long are a plain batch."""
        batch, steps = int(np.max(ragged.sequences)), ragged.steps
        step = Pass(name, phase, batch, int(ragged.queries.max()), ragged.longest_keys, steps=steps, absorbed=absorbed)
        return step if len(ragged.counts) == 1 else replace(step, ragged=ragged)

    def half(self) -> Pass:
        """The pass of a micro-batch of two."""
        if self.batch % 2 or self.ragged is not None:
            raise InputError(f"{self.batch} sequences of a rank do not divide into 2 micro_batches")
        return replace(self, batch=self.batch // 2)

    @property
    def sequences(self) -> Dim:
        """Sequences of a step."""
        return self.batch if self.ragged is None else self.ragged.sequences

    @property
    def tokens(self) -> Dim:
        """New tokens of a step."""
        return self.batch * self.q_len if self.ragged is None else self.ragged.tokens

    @property
    def constant_tokens(self) -> int:
        """New tokens of every step, where no sequence leaves."""
        if isinstance(self.tokens, int):
            return self.tokens
        raise ValueError(f"the sequences of '{self.name}' leave one by one")

    @property
    def cached(self) -> Dim:
        """Tokens of before that a prefill sees."""
        if self.ragged is None:
            return self.batch * (maximum(self.kv_len, self.q_len) - self.q_len)
        return self.ragged.alive(self.ragged.keys - self.ragged.queries)

    def attention(self, one: Attention, times: int = 1) -> Attention:
        """An attention of the sequences of this pass; ``times``: so many times as many."""
        ragged = None if self.ragged is None else self.ragged.times(times)
        every = replace(one, batch=times * self.batch, q_len=self.q_len, kv_len=self.kv_len, ragged=ragged)
        return every.of_chosen()

    def recurrence(self, one: Recurrence, chunk: int) -> Recurrence:
        """A recurrence of the sequences of this pass; those that decode go token by token."""
        return replace(one, tokens=self.tokens, sequences=self.sequences, chunk=1 if self.absorbed else chunk)


@dataclass(frozen=True)
class Uniform:
    """Equal sequences of a rank.

    Attributes
    ----------
    count, length: sequences, and tokens of each prompt; cached: those whose keys are there. together: prefilled at a
    time. decoded: tokens that are decoded. accepted: drafted tokens that a step keeps on average; None: none drafted.
    produced: tokens that all ranks decode.
    """

    count: int
    length: int
    cached: int
    together: int
    decoded: int
    accepted: float | None
    produced: int

    def prompt(self, name: str) -> Pass:
        """Prefill, or the pass of an encoder: groups of prompts, one after the other."""
        if self.count % self.together:
            raise InputError(
                f"{self.count} sequences of a rank do not divide into groups of prefill_batch {self.together}"
            )
        return Pass(name, 0, self.together, self.length - self.cached, self.length, steps=self.count // self.together)

    def decode(self) -> Pass:
        """Decoding, a token a step; with drafts two are computed and 1 + ``accepted`` kept."""
        drafting = self.accepted is not None
        rate = Fraction(str(1 + (self.accepted or 0)))
        steps, new = math.ceil(self.decoded / rate), 2 if drafting else 1
        if steps > _MOST_STEPS:
            raise InputError(f"{steps:,} steps of decoding: at most {_MOST_STEPS:,} are told apart")
        grown = np.arange(steps, dtype=np.int64) * rate.numerator // rate.denominator
        return Pass(
            "decode",
            1,
            self.count,
            new,
            self.length + new + grown if steps > 1 else self.length + new,
            steps=steps,
            absorbed=True,
            drafting=drafting,
            produced=round(Fraction(self.produced, steps)) if drafting else None,
        )


def recorded_prompts(name: str, requests: Sequence[Request]) -> Pass:
    """All prompts at once."""
    return Pass.of(name, 0, Ragged.of([(1, r.input, r.input, 1) for r in requests], 1))


def recorded_decodes(requests: Sequence[Request], apart: bool) -> list[Pass]:
    """Sequences that begin together and leave as they finish; none joins later. ``output`` of a request is decoded.

    Parameters
    ----------
    apart: each number of sequences as a pass of its own, where layers depend on it by more than their sizes.
    """
    living = [r for r in requests if r.output]
    if not living:
        return []
    ends = sorted({r.output for r in living}) if apart else [max(r.output for r in living)]
    passes, begin = [], 0
    for number, end in enumerate(ends):
        classes = [(1, 1, r.input + begin + 1, min(r.output, end) - begin) for r in living if r.output > begin]
        name = "decode" if len(ends) == 1 else f"decode.{number}"
        passes.append(Pass.of(name, 1 + number, Ragged.of(classes, end - begin), absorbed=True))
        begin = end
    return passes


def fullest_cache(requests: Sequence[Request]) -> list[tuple[int, int]]:
    """The (sequences, tokens) that are cached when most tokens are, each request leaving when it has its answer.

    Before decoding all prompts are there; after each step those that took part in it.
    """
    inputs, outputs = (np.array([getattr(r, of) for r in requests], dtype=np.int64) for of in ("input", "output"))
    ends = np.unique(outputs[outputs > 0])
    order = np.argsort(outputs, kind="stable")
    # Sequences that decode at least so many tokens, and their prompts' tokens.
    first = np.searchsorted(outputs[order], ends)
    left = np.cumsum(inputs[order][::-1])[::-1][first] + (len(order) - first) * ends
    if not len(ends) or left.max() <= inputs.sum():
        lengths, counts = np.unique(inputs, return_counts=True)
    else:
        end = ends[int(left.argmax())]
        lengths, counts = np.unique(inputs[outputs >= end] + end, return_counts=True)
    return list(zip(counts.tolist(), lengths.tolist(), strict=True))
