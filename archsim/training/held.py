"""What the ranks of a stage hold: parameters, and bytes at the fullest moment of a step."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from archsim.training.pipeline import Flying
from archsim.training.setup import Part, Setup
from archsim.workloads.step.ends import Ends, layer_parameters
from archsim.workloads.step.kinds import kinds_of
from archsim.workloads.step.layer import NARROW, element_bytes
from archsim.workloads.step.memory import Held, head_activations, layer_activations, states


def ends_of(parts: list[Part]) -> tuple[bool, bool]:
    """Whether a stage holds the embedding, and the head."""
    return any(part.first for part in parts), any(part.last for part in parts)


def parameters_of(setup: Setup, parts: list[Part]) -> tuple[int, int]:
    """Parameters of a rank of a stage: all but experts, and experts."""
    ends, plain, experts = Ends(setup.layers), 0, 0
    plain += ends.stage_parameters(*((True, True) if setup.cut.vocabulary else ends_of(parts)))
    for part in parts:
        for kind, count in part.layers:
            mine = layer_parameters(setup.layers, kind)
            plain, experts = plain + count * mine[0], experts + count * mine[1]
    return plain, experts


def held(setup: Setup, parts: list[Part], flying: Flying) -> Held:
    """Bytes of a rank of a stage at its fullest moment.

    Parameters
    ----------
    flying: micro-batches of each part at the moments of the step (:func:`archsim.training.pipeline.flying`).
    """
    cut, layers = setup.cut, setup.layers
    plain, experts = parameters_of(setup, parts)
    element = element_bytes(setup.dtype)
    expert_ranks = max(1, cut.replicas * cut.tensor // cut.experts)
    weights, gradients, state = states(setup.framework, element, plain, experts, cut.shards, cut.sharing, expert_ranks)
    if setup.dtype in NARROW:
        weights += round((plain + experts) * NARROW[setup.dtype])
    if not setup.backward:
        return Held(weights, 0, 0, 0)
    each = kept(setup, parts)
    activations = int((flying @ each).max())
    if cut.vocabulary:  # every time that stages wait for each other, one micro-batch more (arXiv 2411.05288, section 5)
        activations += cut.vocabulary * int(each[: len(parts)].sum() + head_activations(layers, Ends(layers).vocab))
    buffers = 0
    if setup.recompute == "full":  # the layer that is computed again
        buffers += max(layer_activations(layers, "none", kind) for kind in set(kinds_of(setup.model)))
    if any(part.last for part in parts):
        activations += head_activations(layers, Ends(layers).vocab)
    if cut.shards == 3:  # gathered parameters of two layers
        buffers += 2 * max(sum(layer_parameters(layers, kind)) for kind in set(kinds_of(setup.model))) * element
    return Held(weights, gradients, state, activations, buffers)


_WINDOW = 2
"""layers whose weights, gradients or activations are on the GPU where others are away: one in use, one on its way"""


def split(setup: Setup, whole: Held) -> tuple[Held, Held]:
    """What of a rank's states stays on its GPU, and what lives away."""
    spec = setup.offload
    if spec is None:
        return whole, Held(0, 0, 0, 0)
    kinds = set(kinds_of(setup.model))
    largest = max(sum(layer_parameters(setup.layers, kind)) for kind in kinds) * setup.layers.e
    each = max(layer_activations(setup.layers, setup.recompute, kind) for kind in kinds)
    gradients = min(whole.gradients, _WINDOW * largest)
    weights = whole.weights if spec.weights == "gpu" else min(whole.weights, _WINDOW * largest)
    activations = whole.activations
    if spec.activations != "gpu":
        activations = min(activations, _WINDOW * each + (head_activations(setup.layers, Ends(setup.layers).vocab)))
    away = Held(whole.weights - weights, 0, whole.optimizer, whole.activations - activations)
    return Held(weights, gradients, 0, activations, whole.buffers), away


def kept(setup: Setup, parts: list[Part]) -> npt.NDArray[np.int64]:
    """Bytes of a micro-batch for each part until its way back ends, then for each until those of weights are done.

    These wait for what products took and the gradients of what they gave: what is kept with selective recomputation,
    however little was kept before (arXiv 2401.10241, appendix: 32 sbh of 34 sbh and the scores).
    """
    sizes = [
        sum(count * layer_activations(setup.layers, recompute, kind) for kind, count in part.layers)
        for recompute in (setup.recompute, "selective")
        for part in parts
    ]
    return np.array(sizes, np.int64)
