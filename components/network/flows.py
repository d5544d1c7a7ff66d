"""Flows over the dimensions of a network: the messages of a collective with the links that they really cross.

A schedule (:mod:`archsim.components.network.collective`) numbers the members of a group from 0 and names links by these
numbers. Here members are ranks of the system, so that flows of different groups meet on the links they share.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from archsim.components.network.collective import Message, check, schedule
from archsim.components.network.topology import SWITCH, DimensionSpec, LinkName, Span, medium, route, spans
from archsim.errors import InputError, shortened
from archsim.model.network import Flow, Parcel, Wire
from archsim.sim.messages import Messages, lone

if TYPE_CHECKING:
    from archsim.components.network.message_simulation import Prepared
    from archsim.components.network.network import Network


def collective_flow(network: Network, name: str, n_bytes: int, group: Sequence[int]) -> Flow:
    """A collective of ranks that are evenly spaced, or stand anywhere along one dimension that is no ring.

    Raises
    ------
    InputError: the group is not evenly spaced, or cuts through a dimension.
    """
    check(name)
    dimensions = network.spec.dimensions
    spanned = _line(dimensions, group)
    if spanned is None:
        spanned = spans(dimensions, len(group), _distance(group), closed=name != "send_recv")
        _check_places(dimensions, spanned, group)
    timing = network.timed(name, n_bytes, spanned)
    actions = {action: int(count) for action, count in timing.actions.items()}
    measured = network.measured(name, len(group)) if all(span.index == 0 for span in spanned) else None
    if measured is not None:
        library, took = measured
        return _held(network, f"{name} of {len(group)} ranks by {library}", took(n_bytes), group, actions)
    launch = int(network.time.ps(network.spec.launch)) if spanned else 0

    @functools.cache
    def parcels() -> Sequence[Parcel]:
        wire = network.own_wires
        overheads = [int(network.time.ps(dimension.overhead)) for dimension in dimensions]
        return [
            _parcel(message, dimensions, group, wire, overheads)
            for message in schedule(name, dimensions, spanned, n_bytes)
        ]

    links = frozenset(
        medium(link, network.links[span.index].spec)
        for number, span in enumerate(spanned)
        for line in _lines(spanned, number)
        for link in _links(dimensions[span.index], span.index, [group[i] for i in line])
    )
    ticks = int(timing.ticks)
    late = max((_late(network, span.index) for span in spanned), default=0)
    return Flow(f"{name} of {len(group)} ranks", len(group), launch, ticks, ticks + late, links, parcels, actions)


def _held(network: Network, what: str, ticks: int, group: Sequence[int], actions: dict[str, int]) -> Flow:
    """A collective that was measured as a whole: it holds the links that leave its ranks as long as it takes."""
    leaving, link = _leaving(network.spec.dimensions[0], group), network.links[0].spec

    def lasts(_: int) -> int:
        return ticks

    def parcels() -> list[Parcel]:
        held = [(member, Wire(name, lasts, lasts, lasts, medium=medium(name, link))) for member, name in leaving]
        return [Parcel((wire,), 0, member, -1, ((0, member),), ((1, member),), 0) for member, wire in held]

    links = frozenset(medium(name, link) for _, name in leaving)
    return Flow(what, len(group), 0, ticks, ticks, links, parcels, actions)


def _leaving(dimension: DimensionSpec, group: Sequence[int]) -> list[tuple[int, LinkName]]:
    """Members and the links that leave them."""
    place = {rank: member for member, rank in enumerate(group)}
    return [(place[name[1]], name) for name in _links(dimension, 0, group) if name[1] in place]


class Way(NamedTuple):
    """How messages go from one rank to another.

    Attributes
    ----------
    use: ticks at the target from the arrival until a message counts. links: mediums that it occupies.
    actions: of the network, and the number of the dimension whose bytes on the wire they count.
    """

    path: tuple[Wire, ...]
    use: int
    links: frozenset[LinkName]
    actions: tuple[tuple[str, int], ...]


def ways_of(network: Network) -> Callable[[int, int], Way]:
    """Ways between ranks, the innermost dimension in which they differ first; those asked for last are remembered."""
    dimensions, wire = network.spec.dimensions, network.own_wires

    @functools.lru_cache(maxsize=2**14)
    def way(source: int, target: int) -> Way:
        if not min(source, target) >= 0 or max(source, target) >= network.ranks:
            raise InputError(f"rank {source} sends to rank {target}: the network has ranks 0 to {network.ranks - 1}")
        names: list[LinkName] = []
        use, here, stride = 0, source, 1
        for index, dimension in enumerate(dimensions):
            place, wanted = here // stride % dimension.ranks, target // stride % dimension.ranks
            if place != wanted:
                members = [here + stride * (i - place) for i in range(dimension.ranks)]
                names += route(dimension, index, members, place, wanted)
                use = max(use, int(network.time.ps(dimension.overhead)))
                here = members[wanted]
            stride *= dimension.ranks
        links = frozenset(medium(name, network.links[name[0]].spec) for name in names)
        actions = [(f"{kind}{index}_byte", index) for index, _, to in names for kind in _counted(to)]
        return Way(tuple(wire(name) for name in names), use, links, tuple(actions))

    return way


def _counted(to: int) -> tuple[str, ...]:
    return ("link", "switch") if to == SWITCH else ("link",)


def message_flow(network: Network, source: int, target: int, n_bytes: int) -> Flow:
    """A message from one rank to another."""
    path, use, links, counted = network.ways(source, target)
    launch = int(network.time.ps(network.spec.launch)) if path else 0
    now = tail = late = 0
    for hop, link in enumerate(path):
        start, arrival = now, link.arrival(n_bytes)
        tail = max(start + arrival, tail + link.latency if hop else 0)
        now = min(start + link.head(n_bytes), tail)
        late = max(late, link.busy(n_bytes) - arrival)
    actions: dict[str, int] = {}
    for action, index in counted:
        actions[action] = actions.get(action, 0) + int(network.links[index].wire_bytes(n_bytes))
    ticks = launch + tail + use

    def parcels() -> list[Parcel]:
        return [Parcel(path, n_bytes, 0, 1, ((0, 0),), ((1, 1),), use)] if path else []

    return Flow(f"{source} to {target}", 2, launch, ticks, ticks + late, links, parcels, actions)


def _line(dimensions: Sequence[DimensionSpec], group: Sequence[int]) -> tuple[Span, ...] | None:
    """The one dimension in which members of a group differ, where any of its ranks may stand together; else None."""
    stride = 1
    for index, dimension in enumerate(dimensions):
        same = {(rank % stride, rank // (stride * dimension.ranks)) for rank in group}
        if len(group) > 1 and len(same) == 1 and dimension.topology != "ring":
            _check_ranks(dimensions, group)
            return (Span(index, len(group)),)
        stride *= dimension.ranks
    return None


def _check_ranks(dimensions: Sequence[DimensionSpec], group: Sequence[int]) -> None:
    total = math.prod(dimension.ranks for dimension in dimensions)
    if min(group) < 0 or max(group) >= total:
        named = shortened(list(group))
        raise InputError(f"the group {named} names ranks beyond those of the network, 0 to {total - 1}")


def _distance(group: Sequence[int]) -> int:
    """Ranks between neighbours of a group."""
    steps = {b - a for a, b in itertools.pairwise(group)}
    if len(steps) > 1 or (steps and min(steps) < 1):
        named = shortened(list(group))
        raise InputError(f"a group on dimensions of links is evenly spaced, in rising order: {named} is not")
    return steps.pop() if steps else 1


def _check_places(dimensions: Sequence[DimensionSpec], spanned: Sequence[Span], group: Sequence[int]) -> None:
    """Complain of a group that goes over the edge of a dimension it does not fill."""
    reach = {span.index: span.ranks for span in spanned}
    first, last, stride = group[0], group[-1], 1
    _check_ranks(dimensions, group)
    for index, dimension in enumerate(dimensions):
        begin, end = first // stride % dimension.ranks, last // stride % dimension.ranks
        if (index in reach) != (begin != end) or end < begin:
            where = f"dimension {index} of {dimension.ranks} ranks"
            raise InputError(f"the group {shortened(list(group))} goes over the edge of {where}")
        stride *= dimension.ranks


def _lines(spanned: Sequence[Span], number: int) -> list[list[int]]:
    """Members along one spanned dimension, by line."""
    stride = math.prod(span.ranks for span in spanned[:number])
    total = math.prod(span.ranks for span in spanned)
    ranks = spanned[number].ranks
    return [[r + stride * i for i in range(ranks)] for r in range(total) if r // stride % ranks == 0]


def _links(dimension: DimensionSpec, index: int, line: Sequence[int]) -> list[LinkName]:
    """All links between the members of a line."""
    n = len(line)
    if dimension.topology == "switch":
        return [name for rank in line for name in ((index, rank, SWITCH), (index, SWITCH, rank))]
    if dimension.topology == "fully_connected":
        return [(index, a, b) for a in line for b in line if a != b]
    return [(index, line[i], line[(i + way) % n]) for i in range(n) for way in (1, -1)]


def _late(network: Network, index: int) -> int:
    """Ticks for which a link may at most be occupied when its last message has arrived: until its credits are back."""
    link = network.links[index]
    return 2 * link.latency + 1 if link.starved else 0


def _parcel(
    message: Message,
    dimensions: Sequence[DimensionSpec],
    group: Sequence[int],
    wire: Callable[[LinkName], Wire],
    overheads: Sequence[int],
) -> Parcel:
    line = [group[member] for member in message.ring]
    source, target = (SWITCH if end == SWITCH else message.ring.index(end) for end in (message.source, message.target))
    names = route(dimensions[message.dimension], message.dimension, line, source, target)
    use = 0 if message.target == SWITCH else overheads[message.dimension]
    return Parcel(
        tuple(wire(name) for name in names),
        message.n_bytes,
        message.source,
        message.target,
        message.waits,
        message.feeds,
        use,
    )


def play_flows(flows: Sequence[tuple[int, Flow]]) -> list[int]:
    """Ticks at which flows on shared links end."""
    alone = [parcel for _, flow in flows if (parcel := lone(flow)) is not None]
    if len(alone) == len(flows):  # the kernel takes longer to be told of a few messages than they take to be played
        messages = Messages()
        for number, ((start, flow), parcel) in enumerate(zip(flows, alone, strict=True)):
            messages.add(number, start + flow.launch, parcel)
        over = messages.ends()
        return [over[number] for number in range(len(flows))]
    from archsim.components.network.message_simulation import play_together  # compiled: not for what is alone

    ends, _, _ = play_together([(_prepared(flow), [start + flow.launch] * flow.members) for start, flow in flows])
    places = [0, *itertools.accumulate(flow.members for _, flow in flows)]
    return [int(ends[first:last].max()) for first, last in itertools.pairwise(places)]


@functools.lru_cache(maxsize=4096)
def _prepared(flow: Flow) -> Prepared:
    """The messages of a flow; it is played again whenever another one joins it."""
    from archsim.components.network.message_simulation import prepared

    return prepared(flow.parcels(), flow.members, lambda parcel: parcel.path, lambda parcel: parcel.use)
