"""What every network answers, so that a system can have dimensions, a graph, or what somebody measured.

Alone, a collective takes a closed form's time. Where several are on the same links at once, each is a *flow*: messages
that cross links one after the other, every link first come, first served.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

from archsim.model.component import Component, S
from archsim.workloads.dims import Dim
from archsim.workloads.op import Collective


@dataclass(frozen=True)
class Wire:
    """A link as messages see it; each function maps payload bytes to ticks.

    Attributes
    ----------
    busy: how long a message occupies the link.
    arrival: from its start until its last byte is at the other end.
    head: from its start until the device at the other end may begin to send it on: its arrival where messages
        are stored and forwarded, less where they are cut through.
    latency: ticks from the end of feeding it, where a link before it does so late, until the last byte has arrived.
    medium: what it shares with others, as both directions of a half-duplex link do; itself when absent.
    """

    name: Hashable
    busy: Callable[[int], int]
    arrival: Callable[[int], int]
    head: Callable[[int], int]
    latency: int = 0
    medium: Hashable = None


Gate = tuple[int, ...]
"""Something a message waits for, named by (phase, member) or by more numbers of which the second is a member."""


class Parcel(NamedTuple):
    """A message of a flow.

    Attributes
    ----------
    path: links it crosses, in order. source, target: members of the flow, -1 for a switch.
    waits: gates that must be open before it is sent; the start of a member opens its gate of phase 0, and each gate of
        a member opens the next with what else feeds it. feeds: gates that open when it, and all others that feed them,
        can be used at the target. use: ticks from its arrival until then.
    """

    path: tuple[Wire, ...]
    n_bytes: int
    source: int
    target: int
    waits: tuple[Gate, ...]
    feeds: tuple[Gate, ...]
    use: int


@dataclass(frozen=True, eq=False, slots=True)
class Flow:
    """What a collective or a send puts on the links.

    Attributes
    ----------
    what: in words. members: how many ranks take part. launch: ticks until the first message may go.
    ticks: how long it takes alone on its links, launch included. clear_ticks: until its links are free then.
    links: what it may occupy; empty when it is timed as a whole and shares nothing.
    actions: action of the network to count. parcels: its messages, made when they are asked for.
    """

    what: str
    members: int
    launch: int
    ticks: int
    clear_ticks: int
    links: frozenset[Hashable]
    parcels: Callable[[], Sequence[Parcel]]
    actions: dict[str, int] = field(default_factory=dict)


class Network(Component[S]):
    """Links between the ranks of a system.

    Attributes
    ----------
    uniform: groups of ranks that are alike have links that are alike, so that one of them stands for all.
    """

    uniform: ClassVar[bool] = False

    @property
    @abstractmethod
    def ranks(self) -> int:
        """Devices on it."""

    @abstractmethod
    def time_of(self, op: Collective) -> tuple[Dim, dict[str, Dim], str]:
        """Ticks of a collective of neighbouring ranks, actions of its whole group, and what bounds it."""

    def units_of(self, op: Collective) -> int:
        """Units of each rank's engine, such as SMs, that the kernels of a collective hold; 0: none that others miss."""
        return 0

    @abstractmethod
    def flow(self, collective: str, n_bytes: int, group: Sequence[int]) -> Flow:
        """A collective of a group of ranks.

        Raises
        ------
        InputError: no such collective, or the group does not fit the network.
        """

    @abstractmethod
    def send(self, source: int, target: int, n_bytes: int) -> Flow:
        """A message from one rank to another."""

    @abstractmethod
    def play(self, flows: Sequence[tuple[int, Flow]]) -> list[int]:
        """Ticks at which flows end that begin at the given ticks and share links.

        Messages that become ready at the same tick go in the order of the flows, then in that of each one's messages.
        """
