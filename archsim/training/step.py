"""A step of training: passes on stages, gradients, optimizer, and what memory holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from archsim.training.held import ends_of, held, parameters_of, split
from archsim.training.pieces import EMPTY, Piece, Pieces
from archsim.training.pipeline import Ran, chains_of, in_flight, run, spans
from archsim.training.setup import Part, Setup, dealt
from archsim.training.timer import PS, Timer, works_of
from archsim.workloads.step.ends import Ends, model_flops
from archsim.workloads.step.kinds import kinds_of
from archsim.workloads.step.memory import Held
from archsim.workloads.step.schedule import Pass
from archsim.workloads.step.work import Kernels, Rows

_US = 10**6
_HIDDEN = 0.9  # of a backward pass that a reduction beside it can use: its first bucket comes when layers are done


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


def step(setup: Setup) -> Step:
    """The time and memory of a step.

    Raises
    ------
    InputError: no schedule of this name, or one that this cut does not fit.
    """
    cut, framework = setup.cut, setup.framework
    pieces = Pieces(setup)
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


def _alone(setup: Setup, pieces: Pieces, parts: list[Part]) -> _Played:
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
    pieces, cut = Pieces(setup), setup.cut
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

    def __init__(self, setup: Setup, pieces: Pieces, deal: list[list[Part]]) -> None:
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
    stages = _Stages(setup, Pieces(setup), dealt(setup.model, cut))
    return spans(cut.schedule, cut.pipeline, cut.virtual, count, stages.length, stages.send), count


def _staged(setup: Setup, pieces: Pieces, deal: list[list[Part]]) -> _Played:
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
