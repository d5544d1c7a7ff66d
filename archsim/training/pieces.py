"""Pieces of a step: kernels that the host launches without waiting; the GPU runs them as launches and kernels allow.

Of pieces that follow each other only three lengths count (all launches, all kernels, the longest way from one to the
other), so equal layers and micro-batches are counted, not played.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import NamedTuple

from archsim.training.setup import Part, Setup
from archsim.training.timer import PS
from archsim.workloads.step.ends import Ends, layer_parameters
from archsim.workloads.step.kinds import Counts, Kind
from archsim.workloads.step.memory import layer_activations
from archsim.workloads.step.work import Exchange, Flash, Kernels, Product, Rows, flops

_US = 10**6
_OF_WEIGHTS = ("_wgrad", "_accumulate", "_bias_grad")


class Piece(NamedTuple):
    """Kernels that follow each other, ps.

    Attributes
    ----------
    host: of all launches. device: of all kernels. either: the longest of launches up to a kernel and of the kernels
    from it on. parts: what the device does, to ps. flops: done. joules: beside those of the idle board.
    """

    host: int
    device: int
    either: int
    parts: Mapping[str, int]
    flops: int
    joules: float = 0.0

    @property
    def ps(self) -> int:
        """Alone, from launch to end."""
        return max(self.host, self.device, self.either)

    def then(self, other: Piece) -> Piece:
        """Both, one after the other."""
        parts = dict(self.parts)
        for name, ps in other.parts.items():
            parts[name] = parts.get(name, 0) + ps
        either = max(self.either + other.device, self.host + other.either)
        both = self.flops + other.flops, self.joules + other.joules
        return Piece(self.host + other.host, self.device + other.device, either, parts, *both)

    def times(self, count: int) -> Piece:
        """So many of them, one after the other."""
        if count <= 0:
            return EMPTY
        either = self.either + (count - 1) * max(self.host, self.device)
        parts = {name: ps * count for name, ps in self.parts.items()}
        done = self.flops * count, self.joules * count
        return Piece(self.host * count, self.device * count, either, parts, *done)

    def longer(self, name: str, ps: int) -> Piece:
        """With the device busy for so much longer."""
        if not ps:
            return self
        parts = {**self.parts, name: self.parts.get(name, 0) + ps}
        return self._replace(device=self.device + ps, either=self.either + ps, parts=parts)


EMPTY = Piece(0, 0, 0, {}, 0)


class Pieces:
    """The pieces of a step."""

    def __init__(self, setup: Setup) -> None:
        self.setup, self.host = setup, setup.framework.host
        self.ends = Ends(setup.layers)
        self.older = setup.framework.products_time.get(setup.timer.gpu.chip.instruction, 1.0)

    def made(self, kernels: Kernels, launch_us: float) -> Piece:
        """A piece of kernels."""
        host = device = either = beside = done = 0
        parts: dict[str, int] = {}
        timer = self.setup.timer
        launch = round(launch_us * _US)
        slowdown = self._slowdown(kernels, launch)
        joules = 0.0
        suffix: list[tuple[int, int]] = []
        for kernel in kernels:
            work = kernel.work
            if isinstance(work, Exchange):
                host += self._call(work.group)
                ps = self._exchange(work)
                if kernel.beside:
                    beside += ps
                    continue
                name = f"{work.group} exchange"
            else:
                host += round(launch * kernel.launches)
                ps = timer.ps(work)
                name = _NAMES[type(work)]
                ps = round(ps * self._times(work, slowdown))
                done += flops(work)
                joules += timer.joules(work, slowdown)
            suffix.append((host, device))
            device += ps
            parts[name] = parts.get(name, 0) + ps
        for launched, before in suffix:
            either = max(either, launched + device - before)
        piece = Piece(host, device, either, parts, done, joules)
        computing = device - sum(ps for name, ps in parts.items() if name.endswith("exchange"))
        return piece.longer("context exchange", max(0, beside - computing)) if beside else piece

    def _times(self, work: Product | Flash | Rows, slowdown: float) -> float:
        """How much longer a kernel takes than alone: by the clock, by the library's age."""
        if isinstance(work, Rows):
            return 1.0
        if isinstance(work, Product):
            return slowdown * self.older * (self.setup.framework.experts_time if work.experts else 1.0)
        return slowdown

    def _slowdown(self, kernels: Kernels, launch: int) -> float:
        """Of the clock, where these kernels over and over would draw more than the power cap."""
        timer, energy_j, stream_j = self.setup.timer, 0.0, 0.0
        streams = others = host = 0
        for kernel in kernels:
            work = kernel.work
            host += round(launch * kernel.launches)
            if isinstance(work, Exchange):
                others += 0 if kernel.beside else self._exchange(work)
            elif isinstance(work, Rows):
                streams += timer.ps(work)
                stream_j += timer.joules(work, 1.0)
            else:
                others += timer.ps(work)
                energy_j += timer.energy_j(work)
        return timer.slowdown(energy_j, stream_j, max(host, streams + others) / PS)

    def _call(self, group: str) -> int:
        """Host time of a collective."""
        cut, host = self.setup.cut, self.host
        ranks = {"tensor": cut.tensor, "context": cut.context, "experts": cut.experts}[group]
        return round((host.collective_us + host.rank_us * math.log2(ranks)) * _US)

    def _exchange(self, work: Exchange) -> int:
        cut, fabric, framework = self.setup.cut, self.setup.fabric, self.setup.framework
        whole = ("tp", "cp", "dp") if cut.experts >= cut.tensor else ("cp", "dp")
        ranks, dimensions, hidden = {
            "tensor": (cut.tensor, ("tp",), framework.overlap_tensor),
            "context": (cut.context, ("cp",), 0.0),
            "experts": (cut.experts, whole, framework.overlap_experts),
        }[work.group]
        inside = cut.inside(fabric.node, *dimensions)
        moe = self.setup.model.moe
        copies = moe.experts_per_token if moe is not None and framework.experts_once else 0
        seconds = fabric.seconds(work.collective, work.bytes, ranks, inside, copies)
        return round(seconds * (1.0 - hidden) * PS)

    @functools.cache  # noqa: B019  (a question's pieces live as long as it does)
    def layer(self, kind: Kind, backward: bool) -> Piece:
        """A layer's forward pass; or what is computed again and its backward pass."""
        setup = self.setup
        if not backward:
            made = self.made(setup.layers.forward(kind), self.host.forward_us)
        else:
            again = self.made(setup.layers.again(setup.recompute, kind), self.host.forward_us)
            made = again.then(self.made(setup.layers.backward(kind), self.host.backward_us))
        made = made.longer("shard exchange", self._shard_wait(made, kind, backward))
        return made.longer("offload exchange", max(0, self._away(kind, backward) - made.ps))

    def _away(self, kind: Kind, backward: bool) -> int:
        """Copies of a layer's weights and activations from and to where they live, ps."""
        setup, away = self.setup, self.setup.away
        if away is None:
            return 0
        weights = sum(layer_parameters(setup.layers, kind)) * setup.layers.e / setup.cut.sharing_weights
        kept = layer_activations(setup.layers, setup.recompute, kind)
        seconds = away.copied_s(away.spec.weights, weights, 0.0)
        seconds += away.copied_s(away.spec.activations, kept if backward else 0.0, 0.0 if backward else kept)
        return round(seconds * PS)

    @functools.cache  # noqa: B019  (as above)
    def weights(self, part: Part) -> int:
        """What gradients of weights take of the backward pass of a part, ps."""
        kinds = (count * self._of_weights(kind) for kind, count in part.layers)
        return sum(kinds) + (self._products_of_weights(self.ends.head_grad()) if part.last else 0)

    @functools.cache  # noqa: B019  (as above)
    def _of_weights(self, kind: Kind) -> int:
        return self._products_of_weights(self.setup.layers.backward(kind))

    def _products_of_weights(self, kernels: Kernels) -> int:
        slowdown, total = self._slowdown(kernels, round(self.host.backward_us * _US)), 0
        for kernel in kernels:
            if kernel.name.endswith(_OF_WEIGHTS) and not isinstance(kernel.work, Exchange):
                total += round(self.setup.timer.ps(kernel.work) * self._times(kernel.work, slowdown))
        return total

    def _shard_wait(self, made: Piece, kind: Kind, backward: bool) -> int:
        """What a layer waits for parameters that are gathered, and gradients scattered, beside the layers around it."""
        setup = self.setup
        cut, fabric = setup.cut, setup.fabric
        if cut.shards < 2 or cut.replicas == 1:
            return 0
        plain, mine = layer_parameters(setup.layers, kind)
        size = (plain + mine) * setup.layers.e
        near = cut.inside(fabric.node, "cp", "dp")
        ranks = cut.sharing
        gathered = fabric.seconds("all_gather", size, ranks, near) if cut.shards == 3 or not backward else 0.0
        scattered = 0.0
        if backward and cut.shards == 3:
            scattered = fabric.seconds("reduce_scatter", size, ranks, near)
            scattered += fabric.seconds("all_reduce", size / ranks, cut.replicas // ranks, near // min(near, ranks))
        beside = round((gathered + scattered) * PS)
        return max(round(beside * setup.framework.contention), beside - made.ps)

    def stage(self, layers: Counts, first: bool, last: bool, backward: bool) -> Piece:
        """A pass through so many layers of each kind."""
        middle = EMPTY
        for kind, count in layers:
            middle = middle.then(self.layer(kind, backward).times(count))
        ends, host = self.ends, self.host
        if backward:
            found = middle if not last else self.made(ends.head_grad(), host.backward_us).then(middle)
            found = found if not first else found.then(self.made(ends.embedding_grad(), host.backward_us))
        else:
            found = middle if not first else self.made(ends.embedding(), host.forward_us).then(middle)
            found = found if not last else found.then(self.made(ends.head(), host.forward_us))
        waits = round(host.micro_batch_us * _US / 2)
        return found._replace(host=found.host + waits, either=found.either + waits)

    def vocabulary(self, backward: bool) -> Piece:
        """A stage's share of embedding and head for a micro-batch; what stages exchange runs beside layers."""
        ends, host = self.ends, self.host
        if backward:
            return self.made((*ends.head_grad(), *ends.embedding_grad()), host.backward_us)
        return self.made((*ends.embedding(), *ends.head()), host.forward_us)


_NAMES = {Product: "products", Flash: "attention", Rows: "rows"}
