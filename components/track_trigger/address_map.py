"""The address map: what becomes of each chunk of a GEMM's output, programmed before the GEMM starts.

Workgroups are staggered over the ranks, so that every rank produces its chunks in the order in which the others need
them: chunks are told apart by *position*, the order in which this rank produces them. A chunk is mapped to the memory
of another rank (stores go straight there), to a DMA command that sends it on once all its updates are in, or stays
(T3, Pati et al., ASPLOS 2024, sections 4.1 and 4.4). Where it is sent it lands at a position of the target's. Positions
that no workgroup produces hold what only passes through or is received.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from collections.abc import Mapping as Named
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from archsim.errors import InputError, nearest, shortened


class Mapping(enum.Enum):
    """What the map says of a chunk."""

    REMOTE = "remote"  # stores go straight to another rank's memory
    DMA = "dma"  # stores stay and are tracked; a DMA sends the chunk on when they and what arrives are in
    LOCAL = "local"  # it stays


class Send(NamedTuple):
    """To the rank ``hop`` places further, where it lands at a position."""

    hop: int
    lands: int


class Chunk(NamedTuple):
    """A position of the output or of the buffers beside it."""

    mapping: Mapping
    sends: tuple[Send, ...] = ()
    produced: bool = True


@dataclass(frozen=True)
class AddressMap:
    """Chunks of one collective; the same on every rank.

    Attributes
    ----------
    ranks: that take part. chunks: by position, equal in bytes. reduces: whether what arrives is added to what is there.

    Raises
    ------
    InputError: a chunk is sent nowhere, or to where there is none.
    """

    collective: str
    ranks: int
    chunks: tuple[Chunk, ...]
    reduces: bool

    def __post_init__(self) -> None:
        for position, chunk in enumerate(self.chunks):
            if (chunk.mapping is Mapping.LOCAL) == bool(chunk.sends):
                raise InputError(
                    f"chunk {position} of the {self.collective} is mapped {chunk.mapping.value} and sent to "
                    f"{len(chunk.sends)} ranks: only a local one stays"
                )
            for send in chunk.sends:
                if not 0 < send.hop < self.ranks or not 0 <= send.lands < len(self.chunks):
                    raise InputError(
                        f"chunk {position} of the {self.collective} lands at {send.lands}, {send.hop} ranks further: "
                        f"there are {self.ranks} ranks and {len(self.chunks)} chunks"
                    )
        for position, chunk in enumerate(self.chunks):
            if not self.reduces and self.updates(position) + (chunk.mapping is Mapping.REMOTE) != 1:
                raise InputError(
                    f"chunk {position} of the {self.collective} is written {self.updates(position)} times, and nothing "
                    "is summed"
                )

    @cached_property
    def produced(self) -> tuple[int, ...]:
        """Positions that the GEMM's workgroups produce, in their order."""
        return tuple(p for p, chunk in enumerate(self.chunks) if chunk.produced)

    @cached_property
    def arrivals(self) -> tuple[int, ...]:
        """How often each position is sent to."""
        counts = [0] * len(self.chunks)
        for chunk in self.chunks:
            for send in chunk.sends:
                counts[send.lands] += 1
        return tuple(counts)

    def updates(self, position: int) -> int:
        """How often each byte of a position is written before the chunk is whole."""
        chunk = self.chunks[position]
        own = chunk.produced and chunk.mapping is not Mapping.REMOTE
        return int(own) + self.arrivals[position]

    @property
    def hops(self) -> tuple[int, ...]:
        """Distances over which something is sent."""
        return tuple(sorted({send.hop for chunk in self.chunks for send in chunk.sends}))

    def traffic(self, chunk_bytes: int) -> tuple[int, int, int]:
        """Bytes that a rank's memory reads for DMA and writes, and bytes that the rank sends."""
        sends = [len(chunk.sends) for chunk in self.chunks]
        reads = sum(chunk.mapping is Mapping.DMA for chunk in self.chunks)
        writes = sum(self.updates(position) for position in range(len(self.chunks)))
        return reads * chunk_bytes, writes * chunk_bytes, sum(sends) * chunk_bytes

    def remapped(self, words: Sequence[str]) -> AddressMap:
        """The same collective, mapped as said: for each produced chunk, in their order, remote, dma or local.

        Raises
        ------
        InputError: chunks of the output are left unmapped, or one is mapped as the collective cannot have it.
        """
        known = [kind.value for kind in Mapping]
        for word in words:
            if word not in known:
                raise InputError(f"'{shortened(word)}' is no mapping of a chunk: {nearest(word, known)}")
        if len(words) != len(self.produced):
            what = "leaves output unmapped" if len(words) < len(self.produced) else "maps more than the output"
            raise InputError(
                f"a map of {len(words)} chunks {what}: the {self.collective} of {self.ranks} ranks has "
                f"{len(self.produced)}"
            )
        chunks = list(self.chunks)
        for position, word in zip(self.produced, words, strict=True):
            mapping, chunk = Mapping(word), chunks[position]
            if (mapping is Mapping.LOCAL) != (chunk.mapping is Mapping.LOCAL):
                raise InputError(f"chunk {position} of the {self.collective} is {chunk.mapping.value}, not {word}")
            if mapping is Mapping.REMOTE and self.arrivals[position]:
                raise InputError(f"chunk {position} of the {self.collective} is updated here: it cannot be remote")
            chunks[position] = chunk._replace(mapping=mapping)
        return AddressMap(self.collective, self.ranks, tuple(chunks), self.reduces)


def ring_reduce_scatter(ranks: int) -> AddressMap:
    """The first chunk goes to the neighbour, each later one is sent on with what arrived, the last one stays."""
    middle = (Chunk(Mapping.DMA, (Send(1, p + 1),)) for p in range(1, ranks - 1))
    chunks = (Chunk(Mapping.REMOTE, (Send(1, 1),)), *middle, Chunk(Mapping.LOCAL))
    return AddressMap("ring reduce-scatter", ranks, chunks, True)


def direct_reduce_scatter(ranks: int) -> AddressMap:
    """Every chunk but the own goes straight to its owner."""
    away = tuple(Chunk(Mapping.REMOTE, (Send(p + 1, ranks - 1),)) for p in range(ranks - 1))
    return AddressMap("direct reduce-scatter", ranks, (*away, Chunk(Mapping.LOCAL)), True)


def ring_all_gather(ranks: int) -> AddressMap:
    """The GEMM's output, one chunk, goes round."""
    chunks = [Chunk(Mapping.DMA, (Send(1, p + 1),), p == 0) for p in range(ranks - 1)]
    return AddressMap("ring all-gather", ranks, (*chunks, Chunk(Mapping.LOCAL, (), False)), False)


def direct_all_gather(ranks: int) -> AddressMap:
    """The GEMM's output, one chunk, is sent to all."""
    own = Chunk(Mapping.DMA, tuple(Send(hop, hop) for hop in range(1, ranks)))
    return AddressMap("direct all-gather", ranks, (own, *(Chunk(Mapping.LOCAL, (), False),) * (ranks - 1)), False)


def direct_all_to_all(ranks: int) -> AddressMap:
    """Every chunk but the own goes straight to its receiver."""
    away = tuple(Chunk(Mapping.REMOTE, (Send(p + 1, ranks + p),)) for p in range(ranks - 1))
    received = (Chunk(Mapping.LOCAL, (), False),) * (ranks - 1)
    return AddressMap("direct all-to-all", ranks, (*away, Chunk(Mapping.LOCAL), *received), False)


def ring_all_to_all(ranks: int) -> AddressMap:
    """Every chunk but the own goes to its receiver from neighbour to neighbour, the farthest first."""
    chunks, passing = [], list[Chunk]()
    for far in range(ranks - 1, 0, -1):
        first = ranks + len(passing)
        chunks.append(Chunk(Mapping.REMOTE, (Send(1, first),)))
        passing += [Chunk(Mapping.DMA, (Send(1, first + i),), False) for i in range(1, far)]
        passing.append(Chunk(Mapping.LOCAL, (), False))
    return AddressMap("ring all-to-all", ranks, (*chunks, Chunk(Mapping.LOCAL), *passing), False)


MAPS: Named[tuple[str, str], Callable[[int], AddressMap]] = {
    ("reduce_scatter", "ring"): ring_reduce_scatter,
    ("reduce_scatter", "direct"): direct_reduce_scatter,
    ("all_gather", "ring"): ring_all_gather,
    ("all_gather", "direct"): direct_all_gather,
    ("all_to_all", "ring"): ring_all_to_all,
    ("all_to_all", "direct"): direct_all_to_all,
}


def address_map(collective: str, way: str, ranks: int) -> AddressMap:
    """The map of a collective: over the ring, or direct between ranks that are all linked.

    Raises
    ------
    InputError: there is none, or fewer than two ranks.
    """
    if (collective, way) not in MAPS:
        known = [f"{a} {b}" for a, b in MAPS]
        raise InputError(f"no address map is known for {collective} {way}: {nearest(f'{collective} {way}', known)}")
    if ranks < 2:
        raise InputError(f"a {collective} needs at least two ranks, not {ranks}")
    return MAPS[collective, way](ranks)
