"""A question of training: what is trained, by what, cut how, on what; and which layers stand on which stage."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from archsim.training.fabric import Fabric
from archsim.training.offload import Offload, OffloadSpec
from archsim.training.pipeline import chains_of
from archsim.training.timer import Timer
from archsim.workloads.model import ModelSpec
from archsim.workloads.step.cut import Cut
from archsim.workloads.step.framework import FrameworkSpec
from archsim.workloads.step.kinds import Counts, counted, kinds_of
from archsim.workloads.step.layer import Layers


@dataclass(frozen=True)
class Setup:
    """A question: what is trained, by what, cut how, on what.

    Attributes
    ----------
    dtype: of products. recompute: none, selective, full. backward: False for inference.
    offload: what lives off the GPU.
    """

    model: ModelSpec
    framework: FrameworkSpec
    cut: Cut
    seq: int
    dtype: str
    recompute: str
    timer: Timer
    fabric: Fabric
    backward: bool = True
    offload: OffloadSpec | None = None

    @property
    def away(self) -> Offload | None:
        """Ways to what lives off the GPU, if something does."""
        return None if self.offload is None else Offload(self.offload, min(self.fabric.node, self.cut.gpus))

    @functools.cached_property
    def layers(self) -> Layers:
        """Builder of the layers' kernels."""
        return Layers(self.model, self.framework, self.cut, self.seq, self.dtype, self.backward)


class Part(NamedTuple):
    """A part of the layers on a stage, and whether embedding and head stand with it."""

    layers: Counts
    first: bool
    last: bool


def dealt(model: ModelSpec, cut: Cut) -> list[list[Part]]:
    """Layers of each part of each stage; the first pieces have one more where they do not divide.

    Where only with embedding and head they would, these count as a layer each.
    """
    total = cut.pieces
    each, more = divmod(model.layers, total)
    sizes: Sequence[int] = [each + (1 if i < more else 0) for i in range(total)]
    if more and total > 2 and (model.layers + 2) % total == 0:
        sizes = [(model.layers + 2) // total - (i in (0, total - 1)) for i in range(total)]
    sizes = cut.layers or sizes
    first, last = (-1, -1) if cut.vocabulary else (0, total - 1)
    kinds, begins = kinds_of(model), [0, *itertools.accumulate(sizes)]
    whole = [Part(counted(kinds[begins[i] : begins[i + 1]]), i == first, i == last) for i in range(total)]
    number = chains_of(cut.schedule, cut.pipeline, cut.virtual).number
    return [[whole[piece % total] for piece in mine] for mine in number]
