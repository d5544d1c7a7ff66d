"""Weights stored as codewords of a dictionary: what a codeword stands for, on average.

The dictionary holds the likeliest rows of a few weights, one of which (zero) is likelier than the others, and all that
such a row begins with; what is stored is cut greedily into the longest rows that it holds (QMoE, arXiv 2310.16795).
"""

from __future__ import annotations

import itertools
import math
from typing import Annotated

import numpy as np
from pydantic import Field, model_validator

from archsim.spec import Count, Spec
from archsim.workloads.op import Codewords


class DictionarySpec(Spec):
    """A dictionary, and how weights are distributed."""

    bits: Annotated[Count, Field(le=24)]
    """of a codeword; the dictionary holds two to their power rows"""
    unit: Annotated[Count, Field(le=8)] = 1
    """weights by which rows grow"""
    units: Annotated[Count, Field(le=64)]
    """of a row at most"""
    levels: Annotated[int, Field(ge=2, le=256)]
    """values of a weight"""
    zeros: Annotated[float, Field(gt=0, lt=1)]
    """share of weights that are zero; the other values are equally likely, and all are independent"""

    @model_validator(mode="after")
    def _check(self) -> DictionarySpec:
        if self.zeros * (self.levels - 1) < 1 - self.zeros:
            raise ValueError(f"zeros: none of {self.levels} values is likelier than zero")
        held = _held(self)
        if any(held.get((1, n), 0.0) < 1.0 for n in range(self.unit + 1)):
            raise ValueError(
                f"bits: the {2**self.bits} likeliest rows are without some of one unit, and the dictionary holds each"
            )
        return self

    @property
    def codewords(self) -> Codewords:
        """What is stored in place of the weights."""
        return Codewords(self.bits, weights_per_codeword(self))


def weights_per_codeword(spec: DictionarySpec) -> float:
    """Weights that a codeword stands for, the mean over a long row.

    Rows of one length and one number of nonzeros are equally likely, so that the chain of matches (a row grows by a
    unit while the dictionary holds it, else the unit begins the next) is one of such kinds. Of the least likely kind
    that is held some rows are in, which are taken to be spread evenly.
    """
    held, counts = _held(spec), range(spec.unit + 1)
    unit = [math.comb(spec.unit, n) * spec.zeros ** (spec.unit - n) * (1 - spec.zeros) ** n for n in counts]
    # Of rows that begin with so many nonzeros: units until one is stored, and with how many nonzeros the next begins.
    lengths, begins = np.zeros(len(unit)), np.zeros((len(unit), len(unit)))
    for first in counts:
        mass = {first: 1.0}
        for length in range(1, spec.units + 1):
            lengths[first] += sum(mass.values())
            longer: dict[int, float] = {}
            for nonzeros, more in itertools.product(mass, counts):
                goes, kind = mass[nonzeros] * unit[more], nonzeros + more
                stays = goes * held.get((length + 1, kind), 0.0)
                begins[first, more] += goes - stays
                if stays:
                    longer[kind] = longer.get(kind, 0.0) + stays
            mass = longer
    shares = np.linalg.matrix_power(begins, 2**10)[0]
    return round(float(spec.unit * (shares @ lengths) / shares.sum()), 9)  # whole where all rows are of one length


def _held(spec: DictionarySpec) -> dict[tuple[int, int], float]:
    """Share of the rows of so many units and nonzeros that the dictionary holds."""
    kinds = [(units, n) for units in range(1, spec.units + 1) for n in range(spec.unit * units + 1)]
    nonzero = math.log((1 - spec.zeros) / (spec.levels - 1))
    likely = {k: (spec.unit * k[0] - k[1]) * math.log(spec.zeros) + k[1] * nonzero for k in kinds}
    left, held = 2**spec.bits, {}
    for units, n in sorted(kinds, key=lambda kind: -likely[kind]):
        rows = math.comb(spec.unit * units, n) * (spec.levels - 1) ** n
        taken = min(rows, left)
        held[units, n] = taken / rows
        left -= taken
        if not left:
            break
    return held
