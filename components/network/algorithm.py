"""Collectives as steps: who sends which chunks to whom, and after what. Steps know no time.

An algorithm is a list of sends. Written one after the other, a send waits for all earlier ones that brought its chunks
to its source; that is all the order there is, and a network plays it. :func:`check` runs the steps on symbols instead
of data and proves that every rank ends with the right sums, whatever the network's timing.

Chunks of an all-reduce, broadcast or send are parts of the buffer; of a reduce-scatter and all-gather, consecutive
ones belong to rank 0, 1, ...; of an all-to-all over n ranks, chunk ``s * n + d`` goes from rank s to rank d.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Annotated, Literal, NamedTuple, overload

from pydantic import Field

from archsim.components.network.binary_tree import double_binary_tree
from archsim.config import Source, build, load_tree
from archsim.errors import InputError, nearest
from archsim.spec import Count, Spec
from archsim.workloads.order import circle, orderly

Op = Literal["all_reduce", "reduce_scatter", "all_gather", "all_to_all", "broadcast", "send_recv"]


class Send(NamedTuple):
    """One message.

    Attributes
    ----------
    chunks: numbers of the chunks it carries, as the source holds them when it is sent.
    reduces: whether the target adds them to its own, or replaces its own by them.
    after: numbers of the sends that must have arrived before it.
    """

    source: int
    target: int
    chunks: tuple[int, ...]
    reduces: bool
    after: tuple[int, ...]


class Around(Sequence[Send]):
    """Rounds of a ring: in each, every rank sends one chunk to the next, once that of the round before has come to it.

    Parameters
    ----------
    ranks: of the ring, in order.
    rounds: of each, how far before its sender's number the number of its chunk is, and whether it is added.
    """

    def __init__(self, ranks: int, rounds: Sequence[tuple[int, bool]]) -> None:
        self.ranks = ranks
        self.rounds = tuple(rounds)

    def __len__(self) -> int:
        return self.ranks * len(self.rounds)

    @overload
    def __getitem__(self, number: int) -> Send: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[Send]: ...
    def __getitem__(self, number: int | slice) -> Send | Sequence[Send]:
        if isinstance(number, slice):
            return [self[one] for one in range(*number.indices(len(self)))]
        turn, source = divmod(range(len(self))[number], self.ranks)
        behind, reduces = self.rounds[turn]
        after = ((turn - 1) * self.ranks + (source - 1) % self.ranks,) if turn else ()
        return Send(source, (source + 1) % self.ranks, ((source - behind) % self.ranks,), reduces, after)


class Algorithm(NamedTuple):
    """A collective over ``ranks`` ranks of a buffer in ``chunks`` chunks."""

    name: str
    op: Op
    ranks: int
    chunks: int
    sends: Sequence[Send]

    def chunk_bytes(self, n_bytes: int) -> int:
        """Bytes of a chunk when each rank has ``n_bytes`` (the gathered ones, of an all-gather), rounded up."""
        parts = self.chunks // self.ranks if self.op == "all_to_all" else self.chunks
        return -(-n_bytes // parts)


_MOST_SENDS, _MOST_CHUNKS = 2_500_000, 4_500_000


def _bounded(sends: int, chunks: int = 0) -> None:
    """Raise InputError for more sends, or chunks that they carry, than are played one by one."""
    if sends > _MOST_SENDS:
        raise InputError(f"the algorithm needs more than {_MOST_SENDS:,} sends, which are not played one by one")
    if chunks > _MOST_CHUNKS:
        raise InputError(f"the algorithm's sends carry more than {_MOST_CHUNKS:,} chunks, which are not followed")


class _Steps:
    """Collects sends in an order in which they could be done one by one."""

    def __init__(self) -> None:
        self.sends: list[Send] = []
        self._carried = 0
        self._brought: dict[tuple[int, int], list[int]] = {}

    def send(self, source: int, target: int, chunks: Sequence[int], reduces: bool = False) -> None:
        """Send chunks once all that was brought to the source for them so far is there."""
        after = sorted({number for chunk in chunks for number in self._brought.get((source, chunk), ())})
        self.put(Send(source, target, tuple(chunks), reduces, tuple(after)))

    def put(self, send: Send) -> None:
        """A send with its own order; later ones of its chunks from its target wait for it."""
        self._carried += len(send.chunks)
        _bounded(len(self.sends), self._carried)
        for chunk in send.chunks:
            place = send.target, chunk
            if send.reduces:
                self._brought.setdefault(place, []).append(len(self.sends))
            else:
                self._brought[place] = [len(self.sends)]
        self.sends.append(send)


# --- the algorithms ------------------------------------------------------------------------------------


def _around(steps: _Steps, line: Sequence[int], groups: Sequence[Sequence[int]], reduces: bool, first: int) -> None:
    """n - 1 steps around a ring: the rank at place p begins with group ``p + first`` and hands on what it gets."""
    n = len(line)
    for step in range(n - 1):
        for place, rank in enumerate(line):
            steps.send(rank, line[(place + 1) % n], groups[(place + first - step) % n], reduces)


def ring(op: Op, ranks: int) -> Algorithm:
    """Chunks passed from neighbour to neighbour; the group of rank r ends its reduction at rank r."""
    steps, line = _Steps(), range(ranks)
    if op == "broadcast":
        for rank in range(ranks - 1):
            steps.send(rank, rank + 1, (0,))
        return Algorithm("ring", op, ranks, 1, tuple(steps.sends))
    _bounded(ranks * (ranks - 1) * (2 if op == "all_reduce" else 1))
    if op == "all_to_all":
        for source in line:
            for ahead in range(1, ranks):
                chunk = source * ranks + (source + ahead) % ranks
                for hop in range(ahead):
                    steps.send((source + hop) % ranks, (source + hop + 1) % ranks, (chunk,))
        return Algorithm("ring", op, ranks, ranks * ranks, tuple(steps.sends))
    rounds = [(turn + 1, True) for turn in range(ranks - 1)] if op in ("all_reduce", "reduce_scatter") else []
    rounds += [(turn, False) for turn in range(ranks - 1)] if op in ("all_reduce", "all_gather") else []
    return Algorithm("ring", op, ranks, ranks, Around(ranks, rounds))


def direct(op: Op, ranks: int) -> Algorithm:
    """Every rank to every other at once, each beginning with its next neighbour."""
    steps = _Steps()
    if op == "broadcast":
        for target in range(1, ranks):
            steps.send(0, target, (0,))
        return Algorithm("direct", op, ranks, 1, tuple(steps.sends))
    if op == "send_recv":
        steps.send(0, 1, (0,))
        return Algorithm("direct", op, ranks, 1, tuple(steps.sends))
    _bounded(ranks * (ranks - 1))
    pairs = [(rank, (rank + ahead) % ranks) for ahead in range(1, ranks) for rank in range(ranks)]
    if op == "all_to_all":
        for source, target in pairs:
            steps.send(source, target, (source * ranks + target,))
        return Algorithm("direct", op, ranks, ranks * ranks, tuple(steps.sends))
    if op in ("all_reduce", "reduce_scatter"):
        for source, target in pairs:
            steps.send(source, target, (target,), True)
    if op in ("all_reduce", "all_gather"):
        for source, target in pairs:
            steps.send(source, target, (source,))
    return Algorithm("direct", op, ranks, ranks, tuple(steps.sends))


def halving_doubling(op: Op, ranks: int) -> Algorithm:
    """Half of what is left to a partner half as far away each time, and back (Rabenseifner 2004)."""
    if ranks < 2 or ranks & (ranks - 1):
        raise InputError(f"halving_doubling needs a power of two of ranks, not {ranks}")
    _bounded(ranks * (ranks.bit_length() - 1), ranks * ranks)
    steps = _Steps()
    distances = [1 << bit for bit in reversed(range(ranks.bit_length() - 1))]
    if op in ("all_reduce", "reduce_scatter"):
        for distance in distances:
            for rank in range(ranks):
                # What is left are the chunks that agree with the rank in the bits above; the partner's half goes.
                mine = [c for c in range(ranks) if (c ^ rank) & ~(2 * distance - 1) == 0]
                steps.send(rank, rank ^ distance, [c for c in mine if (c ^ rank) & distance], True)
    if op in ("all_reduce", "all_gather"):
        for distance in reversed(distances):
            for rank in range(ranks):
                mine = [c for c in range(ranks) if (c ^ rank) & ~(distance - 1) == 0]
                steps.send(rank, rank ^ distance, mine)
    return Algorithm("halving_doubling", op, ranks, ranks, tuple(steps.sends))


def double_tree(op: Op, ranks: int) -> Algorithm:
    """Half of the buffer up and down each of two trees that share the work of forwarding."""
    steps = _Steps()
    for chunk, tree in enumerate(double_binary_tree(ranks)):
        order = [tree.root]
        for rank in order:
            order.extend(tree.children[rank])
        if op == "broadcast" and tree.root:
            steps.send(0, tree.root, (chunk,))
        if op == "all_reduce":
            for rank in reversed(order[1:]):
                steps.send(rank, tree.parent[rank], (chunk,), True)
        for rank in order:
            for child in tree.children[rank]:
                if op == "all_reduce" or child:  # rank 0 has what it broadcasts
                    steps.send(rank, child, (chunk,))
    return Algorithm("double_binary_tree", op, ranks, 2, tuple(steps.sends))


def hierarchical(op: Op, ranks: int, inner: int) -> Algorithm:
    """Reduce-scatter in groups of ``inner``, all-reduce between the groups on as many rails, all-gather back."""
    outer = _groups(ranks, inner)
    steps = _Steps()
    groups = [[range(n * inner, (n + 1) * inner)[i] for i in range(inner)] for n in range(outer)]
    shares = [[share * outer + part for part in range(outer)] for share in range(inner)]
    for line in groups:
        _around(steps, line, shares, True, -1)
    for rail in range(inner):
        line = [group[rail] for group in groups]
        parts = [(chunk,) for chunk in shares[rail]]
        _around(steps, line, parts, True, -1)
        _around(steps, line, parts, False, 0)
    for line in groups:
        _around(steps, line, shares, False, 0)
    return Algorithm("hierarchical", op, ranks, ranks, tuple(steps.sends))


def two_dimensional(op: Op, ranks: int, inner: int) -> Algorithm:
    """All-to-all in groups of ``inner`` first, then between the groups: fewer, larger messages leave a group."""
    outer = _groups(ranks, inner)
    steps = _Steps()
    for group in range(outer):
        for ahead in range(1, inner):
            for place in range(inner):
                peer = (place + ahead) % inner
                source = group * inner + place
                meant = [source * ranks + there * inner + peer for there in range(outer)]
                steps.send(source, group * inner + peer, meant)
    for ahead in range(1, outer):
        for group in range(outer):
            there = (group + ahead) % outer
            for place in range(inner):
                target = there * inner + place
                meant = [(group * inner + source) * ranks + target for source in range(inner)]
                steps.send(group * inner + place, target, meant)
    return Algorithm("two_dimensional", op, ranks, ranks * ranks, tuple(steps.sends))


def in_switch(op: Op, ranks: int) -> Algorithm:
    """Every rank to the switch, which stands as one rank more, and the sum back to all (NVLS, SHARP)."""
    steps = _Steps()
    for rank in range(ranks):
        steps.send(rank, ranks, (0,), True)
    for rank in range(ranks):
        steps.send(ranks, rank, (0,))
    return Algorithm("in_switch", op, ranks, 1, tuple(steps.sends))


def _groups(ranks: int, inner: int) -> int:
    if inner < 2 or ranks % inner or ranks == inner:
        raise InputError(f"{ranks} ranks do not make several groups of {inner}")
    return ranks // inner


_FLAT: dict[str, tuple[Callable[[Op, int], Algorithm], tuple[Op, ...]]] = {
    "ring": (ring, ("all_reduce", "reduce_scatter", "all_gather", "all_to_all", "broadcast")),
    "direct": (direct, ("all_reduce", "reduce_scatter", "all_gather", "all_to_all", "broadcast", "send_recv")),
    "halving_doubling": (halving_doubling, ("all_reduce", "reduce_scatter", "all_gather")),
    "double_binary_tree": (double_tree, ("all_reduce", "broadcast")),
    "in_switch": (in_switch, ("all_reduce",)),
}
_GROUPED: dict[str, tuple[Callable[[Op, int, int], Algorithm], tuple[Op, ...]]] = {
    "hierarchical": (hierarchical, ("all_reduce",)),
    "two_dimensional": (two_dimensional, ("all_to_all",)),
}
NAMES = (*_FLAT, *_GROUPED)
USUAL = {"all_reduce": "ring", "reduce_scatter": "ring", "all_gather": "ring"}
"""Algorithm of a collective on a graph where none is asked for; ``direct`` for all others."""


def algorithm(name: str, op: str, ranks: int, inner: int = 0) -> Algorithm:
    """An algorithm by name.

    Parameters
    ----------
    inner: ranks of a group, for hierarchical and two_dimensional.

    Raises
    ------
    InputError: no such algorithm, none for this collective, or not over so many ranks.
    """
    if name not in NAMES:
        raise InputError(f"no algorithm is called '{name}': {nearest(name, NAMES)}")
    ops = (_FLAT[name] if name in _FLAT else _GROUPED[name])[1]
    known = next((o for o in ops if o == op), None)
    if known is None:
        raise InputError(f"there is no {op} by {name}: {nearest(op, ops)}")
    if ranks < 2:
        raise InputError(f"a collective needs at least two ranks, not {ranks}")
    _bounded(ranks - 1)
    return _FLAT[name][0](known, ranks) if name in _FLAT else _GROUPED[name][0](known, ranks, inner)


# --- from a file ---------------------------------------------------------------------------------------


class StepSpec(Spec):
    """One send of a custom algorithm."""

    source: Annotated[int, Field(ge=0)]
    """rank that sends"""
    target: Annotated[int, Field(ge=0)]
    """rank that receives"""
    chunks: tuple[Annotated[int, Field(ge=0)], ...]
    """chunks it carries"""
    reduce: bool = False
    """whether the target adds them to its own"""
    after: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    """sends (from 0, in the order of the file) that must have arrived; those that brought its chunks when absent"""


class AlgorithmSpec(Spec):
    """A custom algorithm."""

    name: str
    """what it is called"""
    op: Op
    """which collective it does"""
    ranks: Annotated[Count, Field(ge=2, le=65536)]
    """ranks that take part"""
    chunks: Count
    """chunks of the buffer"""
    sends: tuple[StepSpec, ...]
    """the steps, in an order in which they could be done one by one unless they say otherwise"""
    source: str = ""
    """where it comes from"""


def custom(source: Source) -> Algorithm:
    """The algorithm of a file.

    Raises
    ------
    InputError: a step names a rank, chunk or send that does not exist.
    """
    tree = load_tree(source, spec=AlgorithmSpec)
    spec = build(tree, AlgorithmSpec)
    steps = _Steps()
    for number, step in enumerate(spec.sends):
        wrong = _wrong(spec, step)
        if wrong:
            path = f"sends.{number}"
            raise tree.origin(path).error(wrong, path)
        if step.after is None:
            steps.send(step.source, step.target, step.chunks, step.reduce)
        else:
            steps.put(Send(step.source, step.target, step.chunks, step.reduce, step.after))
    return Algorithm(spec.name, spec.op, spec.ranks, spec.chunks, tuple(steps.sends))


def _wrong(spec: AlgorithmSpec, step: StepSpec) -> str:
    """What a step names that does not exist, or nothing."""
    for rank in (step.source, step.target):
        if rank >= spec.ranks:
            return f"there is no rank {rank} among {spec.ranks}"
    if step.source == step.target or not step.chunks:
        return "a send carries at least one chunk to another rank"
    if max(step.chunks) >= spec.chunks:
        return f"there is no chunk {max(step.chunks)} among {spec.chunks}"
    missing = [other for other in step.after or () if other >= len(spec.sends)]
    return f"there is no send {missing[0]} among {len(spec.sends)} to come after" if missing else ""


# --- the proof -----------------------------------------------------------------------------------------


def order(algorithm: Algorithm) -> list[int]:
    """Numbers of the sends in an order that keeps all waits.

    Raises
    ------
    InputError: sends wait for each other in a circle: a deadlock, whose sends are named.
    """
    after = [send.after for send in algorithm.sends]
    ready = orderly(after)
    stuck = circle(after, ready)
    if stuck:
        named = " waits for ".join(
            f"send {number} ({algorithm.sends[number].source} -> {algorithm.sends[number].target})" for number in stuck
        )
        raise InputError(f"algorithm '{algorithm.name}' deadlocks: {named}")
    return ready


def check(algorithm: Algorithm) -> None:
    """Prove that every rank ends with the right chunks, in whatever order the network lets sends arrive.

    Raises
    ------
    InputError: a deadlock; a chunk that is sent while another send may or may not have changed it; or a rank that ends
        without its data, or with something counted twice.
    """
    op, ranks, chunks = algorithm.op, algorithm.ranks, algorithm.chunks
    _bounded(len(algorithm.sends), ranks * chunks)
    if chunks % ranks and op in ("reduce_scatter", "all_gather", "all_to_all"):
        raise InputError(f"algorithm '{algorithm.name}': {chunks} chunks do not divide among {ranks} ranks")
    sequence = order(algorithm)
    _no_races(algorithm, sequence)
    share = max(1, chunks // ranks)
    everybody = Counter(range(ranks))

    def owner(chunk: int) -> int:
        return chunk // share if op in ("reduce_scatter", "all_gather", "all_to_all") else 0

    reduced = op in ("all_reduce", "reduce_scatter")
    held = [
        [Counter([rank] if reduced or owner(chunk) == rank else []) for chunk in range(chunks)] for rank in range(ranks)
    ]
    held.append([Counter() for _ in range(chunks)])  # what a switch holds
    for number in sequence:
        send = algorithm.sends[number]
        for chunk in send.chunks:
            data = held[send.source][chunk]
            held[send.target][chunk] = held[send.target][chunk] + data if send.reduces else Counter(data)
    for rank in range(ranks):
        for chunk in range(chunks):
            if op == "reduce_scatter" and owner(chunk) != rank:
                continue
            if op == "all_to_all" and chunk % ranks != rank:
                continue
            if op == "send_recv" and rank != 1:
                continue
            wanted = everybody if reduced else Counter([owner(chunk)])
            if held[rank][chunk] != wanted:
                have = ", ".join(f"{n} times rank {r}'s" for r, n in sorted(held[rank][chunk].items())) or "nothing"
                raise InputError(
                    f"algorithm '{algorithm.name}': rank {rank} ends with {have} in chunk {chunk} of its {op}"
                )


def _no_races(algorithm: Algorithm, sequence: Sequence[int]) -> None:
    """Every send that reads or replaces a chunk is ordered with every other that changes it."""
    before = [0] * len(algorithm.sends)  # of each send, those that have arrived when it is sent, as bits
    for number in sequence:
        for other in algorithm.sends[number].after:
            before[number] |= before[other] | 1 << other
    uses: dict[tuple[int, int], list[tuple[int, str]]] = {}
    for number, send in enumerate(algorithm.sends):
        for chunk in send.chunks:
            uses.setdefault((send.source, chunk), []).append((number, "reads"))
            uses.setdefault((send.target, chunk), []).append((number, "adds to" if send.reduces else "replaces"))
    for (rank, chunk), users in uses.items():
        for place, (number, does) in enumerate(users):
            for other, also in users[:place]:
                if does == also and does != "replaces":
                    continue
                if not (before[number] >> other & 1 or before[other] >> number & 1):
                    raise InputError(
                        f"algorithm '{algorithm.name}': send {number} {does} chunk {chunk} of rank {rank}, which send "
                        f"{other} {also}, and neither waits for the other"
                    )
