"""What a rank did between two idle moments, remembered: the same pieces, begun as long after each other, take as long.

An *episode* begins when a piece comes to an idle rank and ends when the rank is idle again. As far as an episode is one
that has been played op by op before, its pieces end when they did then: nothing is played. Where it departs from all
that is known, it is played over again from its start, and goes on op by op.

Episodes are a tree of what happened, in order: a piece came, or one ended. Only what nobody else can disturb is kept:
one class of ranks without sends or sources, whose collectives are of one stream.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from archsim.sim.clock import TASKS
from archsim.sim.schedule import SegmentTimes
from archsim.workloads.program import Segment

_LONGEST = 256
"""Events of an episode that are remembered; a longer one hardly comes again."""

Ended = Callable[[Segment, SegmentTimes], None]
"""Told of what was run of a piece, and of its times."""


@dataclass
class Node:
    """A moment of episodes, after which something happens.

    Attributes
    ----------
    depth: events since the start. came: what came next, as (ticks from the start, stream, piece), to what followed.
    ends: ticks, number and times of the piece that ends next if nothing comes before. ended: what followed that.
    awaits: ticks at which something came once.
    """

    depth: int = 0
    came: dict[tuple[int, int, int], Node] = field(default_factory=dict)
    ends: tuple[int, int, SegmentTimes] | None = None
    ended: Node | None = None
    awaits: int | None = None


@dataclass
class Piece:
    """A piece of the episode that is going on: when it came, and whether it has ended."""

    stream: int
    segment: Segment
    start: int
    tell: Ended
    over: bool = False


class Episodes:
    """All that is known of a rank, and where in it the rank is now.

    Attributes
    ----------
    pieces: of the episode that goes on. at: where it is; None where it is not remembered.
    """

    def __init__(self) -> None:
        self._root = Node()
        self.pieces: list[Piece] = []
        self.at: Node | None = None

    def begin(self, piece: Piece, remembered: bool) -> None:
        """A piece comes to the idle rank."""
        self.pieces, self.at = [], self._root if remembered else None
        self.come(piece)

    def forget(self) -> None:
        """What follows in this episode is not remembered."""
        self.at = None

    def come(self, piece: Piece) -> bool:
        """A piece comes; whether it is known what happens next."""
        at = self.at
        if at is None:
            return False
        self.pieces.append(piece)
        offset = piece.start - self.pieces[0].start
        following = at.came.setdefault((offset, piece.stream, id(piece.segment)), Node(at.depth + 1))
        if at.ends is None:
            at.awaits = offset
        self.at = following if at.depth < _LONGEST else None
        return self.at is not None and (following.ends is not None or following.awaits is not None)

    def end(self, piece: Piece, now: int, key: int, times: SegmentTimes) -> None:
        """A piece that was played has ended, in an event of this key: of one after the beginnings of tasks more would
        have to be known."""
        at = self.at
        if at is None:
            return
        piece.over = True
        if key >= TASKS or at.depth >= _LONGEST:
            self.at = None
            return
        if at.ends is None:
            number = next(i for i, other in enumerate(self.pieces) if other is piece)
            at.ends = (now - self.pieces[0].start, number, times)
        if at.ended is None:
            at.ended = Node(at.depth + 1)
        self.at = at.ended
