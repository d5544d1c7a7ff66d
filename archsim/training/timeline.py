"""What each stage holds over the time of a step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from archsim.training.held import held, kept, split
from archsim.training.pipeline import Ran
from archsim.training.setup import Setup, dealt
from archsim.workloads.step.memory import Held


class Moment(NamedTuple):
    """From when on a stage holds what."""

    stage: int
    ps: int
    held: Held


def timeline(setup: Setup, ran: Ran) -> Iterator[Moment]:
    """All changes of what stages hold, stage by stage.

    Activations come when a pass forward begins and go when the way back ends; what stands outside the layers (the
    head's own, the layer that is computed again, gathered parameters) is held throughout, as at the fullest moment.

    Parameters
    ----------
    ran: with all passes told, as :func:`archsim.training.step.few_passes` gives them.
    """
    for stage, parts in enumerate(dealt(setup.model, setup.cut)):
        flying = np.zeros(2 * len(parts), np.int64)
        sizes = kept(setup, parts)
        empty, _ = split(setup, held(setup, parts, flying[None, :]))
        yield Moment(stage, 0, empty)
        changes = []
        for one, start, end in ((one, start, end) for s, one, start, end in ran.spans if s == stage):
            waits = len(parts) + one.part
            changes += {
                "forward": [(start, 1, one.part, 1)],
                "backward": [(end, 0, one.part, -1)],
                "inputs": [(end, 0, one.part, -1), (end, 0, waits, 1)],
                "weights": [(end, 0, waits, -1)],
            }[one.direction]
        for ps, part, more in ((ps, part, more) for ps, _, part, more in sorted(changes)):  # what goes, goes first
            flying[part] += more
            yield Moment(stage, ps, replace(empty, activations=empty.activations + int(flying @ sizes)))
