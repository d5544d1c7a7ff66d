"""A schedule of messages played event by event, to be read: what the compiled simulation must answer."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Sequence

from archsim.components.network.collective import Gate, Message
from archsim.components.network.message_simulation import Outcome
from archsim.components.network.topology import LinkName
from archsim.model.network import Wire


def play(
    messages: Sequence[Message],
    starts: Sequence[int],
    route: Callable[[Message], Sequence[Wire]],
    use: Callable[[Message], int],
) -> Outcome:
    """Simulate a schedule.

    Parameters
    ----------
    starts: tick at which each rank begins.
    route: links a message crosses, in order.
    use: ticks at the target from a message's arrival until it counts (protocol, reduction).

    Messages that become ready at the same tick are sent in the order of the schedule.
    """
    needed: dict[Gate, int] = defaultdict(int)  # arrivals for which a gate still waits
    waiting: dict[Gate, list[int]] = defaultdict(list)  # messages that wait for a gate
    for number, message in enumerate(messages):
        for gate in message.feeds:
            needed[gate] += 1
        for gate in message.waits:
            waiting[gate].append(number)
    last_phase = max((gate[0] for gate in (*needed, *waiting)), default=0)
    closed = [len(message.waits) for message in messages]
    paths: list[Sequence[Wire]] = [()] * len(messages)
    free: dict[LinkName, int] = defaultdict(int)
    link_bytes: dict[LinkName, int] = defaultdict(int)
    link_ticks: dict[LinkName, int] = defaultdict(int)
    ended, received = list(starts), list(starts)
    # (time, message, hop, time of the last byte): a message's head is at the start of a hop; past the last
    # hop it can be used. A rank's start is an event of message -1 - rank.
    events: list[tuple[int, int, int, int]] = [(at, -1 - rank, 0, at) for rank, at in enumerate(starts)]
    heapq.heapify(events)

    def opened(gate: Gate, now: int) -> None:
        for number in waiting.pop(gate, ()):
            closed[number] -= 1
            if not closed[number]:
                heapq.heappush(events, (now, number, 0, now))
        if len(gate) == 2 and gate[0] < last_phase:
            feed((gate[0] + 1, gate[1]), now)  # one phase of a rank follows the other

    def feed(gate: Gate, now: int) -> None:
        needed[gate] -= 1
        if not needed[gate]:
            opened(gate, now)

    for rank in range(len(starts)):
        for phase in range(1, last_phase + 1):
            needed[phase, rank] += 1  # the gate of the phase before
    while events:
        now, number, hop, tail = heapq.heappop(events)
        if number < 0:
            opened((0, -1 - number), now)
            continue
        message = messages[number]
        if hop == 0:
            paths[number] = route(message)
        path = paths[number]
        if hop == len(path):
            if message.target >= 0:  # a switch has no end
                ended[message.target] = max(ended[message.target], now)
                received[message.target] = max(received[message.target], now)
            for gate in message.feeds:
                feed(gate, now)
            continue
        wire = path[hop]
        busy, arrival = wire.busy(message.n_bytes), wire.arrival(message.n_bytes)
        medium = wire.medium or wire.name
        start = max(now, free[medium])
        done = max(start + busy, tail) if hop else start + busy  # no link ends before it has been fed the last byte
        free[medium] = done
        link_bytes[wire.name] += message.n_bytes
        link_ticks[wire.name] += done - start
        tail = max(start + arrival, tail + wire.latency) if hop else start + arrival
        if hop == 0 and message.source >= 0:
            ended[message.source] = max(ended[message.source], min(done, tail - wire.latency))
        ready = tail + use(message) if hop == len(path) - 1 else min(start + wire.head(message.n_bytes), tail)
        heapq.heappush(events, (ready, number, hop + 1, tail))
    return Outcome(tuple(ended), tuple(received), dict(link_bytes), dict(link_ticks))
