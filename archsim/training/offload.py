"""What of a step lives off the GPU: the optimizer's state with its update, weights, activations.

The optimizer's state is updated where it lives: by the host, at the rate of its memory, from drives at theirs.
Gradients leave during the backward pass and weights come back when they are updated. Weights that live off the GPU come
for each pass over a layer, activations leave forward and come back backward; both beside the layers around, so that a
layer is held up by what takes longer than its own computing. A link to the host carries both ways beside each other.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Self

from pydantic import model_validator

from archsim.spec import Spec
from archsim.units import Bytes, BytesPerSecond

Place = Literal["gpu", "host", "drives"]


class OffloadSpec(Spec):
    """Where states live, and the ways there."""

    name: str
    source: str
    """where the rates come from"""
    link: BytesPerSecond
    """of a GPU to its host, each way, where all GPUs of a node copy at once"""
    memory: Bytes
    """of a node's host"""
    memory_bandwidth: BytesPerSecond
    """of a node's host, as far as updates reach it"""
    drives: Bytes | None = None
    """room on those of a node"""
    drives_read: BytesPerSecond | None = None
    """by a node"""
    drives_written: BytesPerSecond | None = None
    """by a node"""
    optimizer: Literal["host", "drives"]
    """where its state lives"""
    weights: Place = "gpu"
    """where those of layers live that are not computed just now"""
    activations: Place = "gpu"
    """where those wait for the backward pass"""
    update: Literal["after", "beside"] = "after"
    """the backward pass, or beside it as gradients come"""
    interleaved: bool = False
    """whether the GPU updates a part, whose state comes and goes, as fast as the link allows"""

    @model_validator(mode="after")
    def _has_drives(self) -> Self:
        unknown = [name for name in ("drives", "drives_read", "drives_written") if getattr(self, name) is None]
        if unknown and "drives" in (self.optimizer, self.weights, self.activations):
            raise ValueError(f"something lives on drives, and '{unknown[0]}' is missing")
        return self


class Update(NamedTuple):
    """Seconds of an update beside or after a backward pass: of gradients that leave, and of all that follows."""

    gradients_s: float
    update_s: float


class Offload:
    """Ways of a GPU, one of so many of a node."""

    def __init__(self, spec: OffloadSpec, gpus: int) -> None:
        self.spec, self.gpus = spec, gpus

    def copied_s(self, place: Place, read: float, written: float) -> float:
        """Of bytes to and from a GPU, those of its node beside it."""
        if place == "gpu":
            return 0.0
        copied = max(read, written) / self.spec.link
        if place == "drives" and self.spec.drives_read and self.spec.drives_written:
            node = self.gpus * read / self.spec.drives_read, self.gpus * written / self.spec.drives_written
            return max(copied, *node)
        return copied

    def update(self, parameters: int, moved: float, state: float, element: float) -> Update:
        """Of so many parameters of a GPU.

        Parameters
        ----------
        moved: bytes that an update of a parameter reads and writes in memory. state: of it, as it is kept.
        element: bytes of a weight, and of a gradient that leaves.
        """
        spec, size = self.spec, parameters * element
        update_s = self.gpus * parameters * moved / spec.memory_bandwidth
        if spec.interleaved:
            there_s = parameters * (state + element) / spec.link
            update_s = 1 / (1 / update_s + 1 / there_s) if update_s and there_s else 0.0
        if spec.optimizer == "drives":
            update_s = max(update_s, self.copied_s("drives", parameters * state, parameters * state))
        return Update(size / spec.link, max(update_s, size / spec.link))


def room(spec: OffloadSpec, optimizer: int, weights: int, activations: int) -> dict[str, tuple[int, int | None]]:
    """Bytes that a node keeps off its GPUs in each place, and the room there is."""
    where = ((spec.optimizer, optimizer), (spec.weights, weights), (spec.activations, activations))
    return {
        place: (sum(size for at, size in where if at == place), most)
        for place, most in (("host", spec.memory), ("drives", spec.drives))
    }
