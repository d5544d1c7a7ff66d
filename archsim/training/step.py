"""A step of training: pieces of layers on a GPU, passes on stages, gradients, optimizer, and what memory holds.

A *piece* is what the host launches without waiting: the GPU runs it as launches and kernels allow, the host ahead.
Of pieces that follow each other only three lengths count (all launches, all kernels, the longest way from one to the
other), so equal layers and micro-batches are counted, not played.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from archsim.training.held import ends_of, held, parameters_of, split
from archsim.training.pipeline import Ran, chains_of, in_flight, run, spans
from archsim.training.setup import Part, Setup, dealt
from archsim.training.timer import PS, Timer, works_of
from archsim.workloads.step.ends import Ends, layer_parameters, model_flops
from archsim.workloads.step.kinds import Counts, Kind, kinds_of
from archsim.workloads.step.memory import Held, layer_activations
from archsim.workloads.step.schedule import Pass
from archsim.workloads.step.work import Exchange, Flash, Kernels, Product, Rows, flops

_US = 10**6
_OF_WEIGHTS = ("_wgrad", "_accumulate", "_bias_grad")
_HIDDEN = 0.9  # of a backward pass that a reduction beside it can use: its first bucket comes when layers are done


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


@dataclass(frozen=True)
class Step:
    """What a step takes, ps and bytes.

    Attributes
    ----------
    away: what the fullest stage keeps off its GPU.
    parts: where the time of the last stage goes: products, attention, rows, exchanges by group, bubble, optimizer, ...
    forward_ps, backward_ps: of all micro-batches of a stage. held: of the fullest stage. flops, joules: of a GPU of
    the slowest stage; update_joules: those of its optimizer beside the idle board.
    """

    ps: int
    parts: Mapping[str, int]
    forward_ps: int
    backward_ps: int
    held: Held
    capacity: int
    flops: int
    joules: float
    model_flops: float
    ran: Ran | None = None
    stage_held: tuple[Held, ...] = field(default=())
    away: Held = field(default=Held(0, 0, 0, 0))
    update_joules: float = 0.0

    @property
    def seconds(self) -> float:
        return self.ps / PS


def kernels_of(setup: Setup) -> Iterable[Kernels]:
    """All lists of kernels that a step is made of, so that they can be timed together."""
    layers, ends = setup.layers, Ends(setup.layers)
    for kind in dict.fromkeys(kinds_of(setup.model)):
        yield layers.forward(kind)
        if setup.backward:
            yield layers.backward(kind)
    yield from (ends.embedding(), ends.head())
    if setup.backward:
        yield from (ends.embedding_grad(), ends.head_grad())


def learn(setups: Iterable[Setup]) -> None:
    """Time the kernels of many steps, all of a kind at once."""
    found: dict[int, tuple[Timer, set[object]]] = {}
    for setup in setups:
        timer, works = found.setdefault(id(setup.timer), (setup.timer, set()))
        for kernels in kernels_of(setup):
            works.update(works_of(kernels))
    for timer, works in found.values():
        timer.learn(works)  # type: ignore[arg-type]


class _Pieces:
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


def step(setup: Setup) -> Step:
    """The time and memory of a step.

    Raises
    ------
    InputError: no schedule of this name, or one that this cut does not fit.
    """
    cut, framework = setup.cut, setup.framework
    pieces = _Pieces(setup)
    deal = dealt(setup.model, cut)
    flying = in_flight(cut.schedule, cut.pipeline, cut.virtual, cut.micro_batches)
    alone = cut.pipeline == 1
    played = _alone(setup, pieces, deal[0]) if alone else _staged(setup, pieces, deal)
    ends_ps, parts, forward, backward, done, joules, last_backward, ran = played
    splits = [split(setup, held(setup, deal[s], flying[s])) for s in range(cut.pipeline)]
    stage_held = tuple(stays for stays, _ in splits)
    fullest = max(stage_held, key=lambda one: one.total)
    update_joules = 0.0
    if setup.backward:
        tail, ends_ps, update_joules = _update(setup, deal, ends_ps, last_backward)
        parts |= tail
    host = round(framework.host.step_us * _US) if setup.backward else 0
    tokens = cut.sequences * setup.seq
    useful = model_flops(setup.model, setup.seq, framework.causal_flops) * tokens / cut.gpus
    parts = {**parts, "host": parts.get("host", 0) + host}
    return Step(
        ends_ps + host,
        parts,
        forward,
        backward,
        fullest,
        setup.timer.memory_bytes,
        done,
        joules + update_joules + setup.timer.gpu.chip.idle_w * (ends_ps + host) / PS,
        useful if setup.backward else useful / 3,
        ran,
        stage_held,
        max((away for _, away in splits), key=lambda one: one.total),
        update_joules,
    )


class _Played(NamedTuple):
    """The passes of a step, as :class:`Step` tells of them; ``last_backward``: of a micro-batch, ps."""

    end: int
    parts: dict[str, int]
    forward: int
    backward: int
    flops: int
    joules: float
    last_backward: int
    ran: Ran | None


def _alone(setup: Setup, pieces: _Pieces, parts: list[Part]) -> _Played:
    """A step without stages: micro-batches one after the other, the host ahead of the GPU."""
    forward = EMPTY
    for part in parts:
        forward = forward.then(pieces.stage(*part, backward=False))
    backward = EMPTY
    if setup.backward:
        for part in reversed(parts):
            backward = backward.then(pieces.stage(*part, backward=True))
    count = setup.cut.micro_batches
    whole = forward.then(backward).times(count)
    told = dict(whole.parts)
    told["host"] = whole.ps - whole.device
    passes = forward.ps * count, whole.ps - forward.ps * count
    return _Played(whole.ps, told, *passes, whole.flops, whole.joules, backward.ps, None)


def least_ps(setup: Setup) -> int:
    """A bound of a step: what its slowest stage computes, and nobody waits."""
    pieces, cut = _Pieces(setup), setup.cut
    directions = (False, True) if setup.backward else (False,)
    known: dict[Part, int] = {}
    slowest = 0
    for parts in dealt(setup.model, cut):
        for part in parts:
            if part not in known:
                known[part] = sum(pieces.stage(*part, backward=direction).ps for direction in directions)
        slowest = max(slowest, sum(known[part] for part in parts))
    if cut.vocabulary:
        slowest += sum(pieces.vocabulary(direction).ps for direction in directions)
    return slowest * (cut.micro_batches // cut.order.chains)


class _Stages:
    """Lengths of passes and of messages between stages."""

    def __init__(self, setup: Setup, pieces: _Pieces, deal: list[list[Part]]) -> None:
        cut, framework = setup.cut, setup.framework
        self.setup, self.pieces, self.deal = setup, pieces, deal
        self.size = setup.layers.own * setup.model.hidden * setup.layers.e
        if framework.scatter_sends and not cut.sequence_parallel and cut.tensor > 1:
            self.size = -(-self.size // cut.tensor)
        self.chains = chains_of(cut.schedule, cut.pipeline, cut.virtual)
        self._known: dict[tuple[Part, bool], Piece] = {}

    def piece(self, part: Part, backward: bool) -> Piece:
        """A pass of a micro-batch through a part."""
        if (part, backward) not in self._known:
            self._known[part, backward] = self.pieces.stage(*part, backward=backward)
        return self._known[part, backward]

    def length(self, stage: int, one: Pass) -> int:
        """Of a pass, ps."""
        part, backward = self.deal[stage][one.part], one.direction != "forward"
        if backward and not self.setup.backward:
            return 0
        if one.direction == "weights":
            return self.pieces.weights(part)
        whole = self.piece(part, backward).ps - (self.pieces.weights(part) if one.direction == "inputs" else 0)
        return whole + (self._hop(stage, self._next(stage, one)) if self.setup.framework.send_waits else 0)

    def _next(self, stage: int, one: Pass) -> int:
        """Where goes what a pass gives: another stage, or this one."""
        number, length = self.chains.number[stage][one.part], self.chains.length
        ahead = one.direction == "forward"
        end = number % length == (length - 1 if ahead else 0)
        return stage if end else self.chains.stage[number + (1 if ahead else -1)]

    def _hop(self, source: int, target: int) -> int:
        """Of a message from a rank of a stage to that of another, ps."""
        apart, fabric = self.setup.cut.apart("pp"), self.setup.fabric
        return 0 if source == target else round(fabric.send(self.size, source * apart, target * apart) * PS)

    def send(self, source: int, target: int) -> int:
        """Of a message, ps, where nobody waits for it but the pass that it brings."""
        return 0 if self.setup.framework.send_waits else self._hop(source, target)


def few_passes(setup: Setup, most: int = 24) -> tuple[Ran, int]:
    """The passes of a step of so many micro-batches at most, each told; and how many they are."""
    cut = setup.cut
    turn = cut.pipeline * cut.order.chains
    count = min(cut.micro_batches, max(turn, most // turn * turn))
    stages = _Stages(setup, _Pieces(setup), dealt(setup.model, cut))
    return spans(cut.schedule, cut.pipeline, cut.virtual, count, stages.length, stages.send), count


def _staged(setup: Setup, pieces: _Pieces, deal: list[list[Part]]) -> _Played:
    cut = setup.cut
    stages = _Stages(setup, pieces, deal)
    piece = stages.piece
    ran = run(cut.schedule, cut.pipeline, cut.virtual, cut.micro_batches, stages.length, stages.send)
    directions = (False, True) if setup.backward else (False,)
    slowest = max(range(cut.pipeline), key=lambda s: ran.busy[s])
    done = [(backward, piece(part, backward)) for part in deal[slowest] for backward in directions]
    if cut.vocabulary:  # passes between those of the layers that keep no other stage waiting (arXiv 2411.05288)
        shares = [(backward, pieces.vocabulary(backward)) for backward in directions]
        more = cut.micro_batches * sum(mine.ps for _, mine in shares)
        ran = ran._replace(end=ran.end + more, busy=[ps + more for ps in ran.busy])
        done += shares
    each = cut.micro_batches // cut.order.chains
    told: dict[str, int] = {}
    for _, mine in done:
        for name, ps in mine.parts.items():
            told[name] = told.get(name, 0) + ps * each
        told["host"] = told.get("host", 0) + (mine.ps - mine.device) * each
    forward, backward = (each * sum(mine.ps for way, mine in done if way == back) for back in (False, True))
    flops_done, joules = each * sum(mine.flops for _, mine in done), each * sum(mine.joules for _, mine in done)
    told["pipeline exchange"] = ran.busy[slowest] - sum(told.values())
    told["bubble"] = ran.end - ran.busy[slowest]
    last = max(piece(part, True).ps for part in deal[0]) if setup.backward else 0
    return _Played(ran.end, told, forward, backward, flops_done, joules, last, ran)


def _update(
    setup: Setup, deal: list[list[Part]], ends_ps: int, last_backward: int
) -> tuple[dict[str, int], int, float]:
    """Gradients summed and parameters updated; the time of each, the end of the step, joules beside the idle board."""
    cut, framework, fabric = setup.cut, setup.framework, setup.fabric
    told: dict[str, int] = {}
    joules = 0.0
    sizes = [parameters_of(setup, parts) for parts in deal]
    plain, experts = max(sizes, key=sum)
    reduce_s = gather_s = 0.0
    expert_replicas = max(1, cut.replicas * cut.tensor // cut.experts)
    stage = cut.inside(fabric.node, "tp", "cp", "dp")
    groups = (
        (plain, cut.replicas, cut.inside(fabric.node, "cp", "dp")),
        (experts, expert_replicas, stage // cut.experts),
    )
    for count, ranks, inside in groups:
        if not count or ranks == 1:
            continue
        size = count * framework.reduced_bytes
        if cut.shards == 0:
            reduce_s += fabric.seconds("all_reduce", size, ranks, inside)
        elif cut.shards < 3:
            reduce_s += fabric.seconds("reduce_scatter", size, ranks, inside)
            gather_s += fabric.seconds("all_gather", count * setup.layers.e, ranks, inside)
    if cut.order.chains > 1 and cut.pipeline > 1:  # copies of the layers, on stages far apart
        shared = cut.replicas if cut.shards else 1
        inside = fabric.node // (cut.apart("pp") * (cut.pipeline - 1))
        size = (plain + experts) * framework.reduced_bytes / shared
        reduce_s += fabric.seconds("all_reduce", size, cut.order.chains, inside)
    apart_ends = not any(ends_of(parts) == (True, True) for parts in deal) and not cut.vocabulary
    if setup.model.tied_embeddings and apart_ends:
        table = Ends(setup.layers).table * framework.reduced_bytes
        told["table exchange"] = round(fabric.seconds("all_reduce", table, 2, 1) * PS)
    reduced, gathered = round(reduce_s * PS), round(gather_s * PS)
    if framework.overlap_reduction:
        reduced = max(reduced // 10, reduced - round(last_backward * _HIDDEN))
    if framework.overlap_gather:
        gathered = max(gathered // 10, gathered - round(last_backward * _HIDDEN / 2))
    told["data exchange"] = reduced + gathered
    if framework.optimizer is not None:
        over = cut.replicas if cut.shards else 1
        mine = -(-plain // over) + -(-experts // (expert_replicas if cut.shards else 1))
        moved = Rows("adam", round(mine * framework.optimizer.bytes))
        if setup.away is not None:
            told |= _update_away(setup, mine, last_backward)
            return told, ends_ps + sum(told.values()), joules
        tensors = 12 * sum(count for part in deal[0] for _, count in part.layers)
        host = framework.optimizer.kernels * framework.host.backward_us + tensors * framework.host.parameter_us
        told["optimizer"] = max(setup.timer.ps(moved), round(host * _US))
        joules = setup.timer.joules(moved, 1.0)
    return told, ends_ps + sum(told.values()), joules


def _update_away(setup: Setup, parameters: int, last_backward: int) -> dict[str, int]:
    """What the update of a rank's parameters takes off the GPU beyond the last backward pass."""
    away, optimizer = setup.away, setup.framework.optimizer
    if away is None or optimizer is None:
        return {}
    update = away.update(parameters, optimizer.bytes, optimizer.state_bytes, setup.layers.e)
    hidden = last_backward * _HIDDEN
    left, took = round(update.gradients_s * PS), round(update.update_s * PS)
    if away.spec.update == "beside":
        return {"optimizer": max(0, round(max(left, took) - hidden))}
    return {"offload exchange": max(0, round(left - hidden)), "optimizer": took}
