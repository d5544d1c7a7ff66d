"""The compiled message simulation equals the readable one, event by event."""

from __future__ import annotations

import naive_messages
from depth import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.components.network.collective import Gate, Message
from archsim.components.network.message_simulation import play
from archsim.model.network import Wire


@st.composite
def schedules(draw: st.DrawFn) -> tuple[list[Message], list[int], list[list[int]], list[int]]:
    """Messages that wait for earlier ones and for phases, over random links."""
    ranks = draw(st.integers(1, 4))
    phases = draw(st.integers(1, 3))
    messages: list[Message] = []
    paths: list[list[int]] = []
    for number in range(draw(st.integers(0, 14))):
        source, target = draw(st.integers(0, ranks - 1)), draw(st.integers(-1, ranks - 1))
        phase = draw(st.integers(0, phases - 1))
        waits: list[Gate] = [(phase, source)]
        earlier = draw(st.sets(st.integers(0, number - 1), max_size=2)) if number else set()
        waits += [(0, other, 0, 0, 0) for other in earlier]
        feeds: list[Gate] = [(0, number, 0, 0, 0)]
        if target >= 0 and draw(st.booleans()):
            feeds.append((phase + 1, target))
        messages.append(Message(0, source, target, (), draw(st.integers(0, 3)), tuple(waits), tuple(feeds)))
        paths.append(draw(st.lists(st.integers(0, 4), min_size=1, max_size=3)))
    starts = draw(st.lists(st.integers(0, 9), min_size=ranks, max_size=ranks))
    ticks = draw(st.lists(st.integers(0, 5), min_size=15, max_size=15))
    return messages, starts, paths, ticks


@settings(max_examples=examples(300), deadline=None)
@given(schedules())
def test_compiled_equals_readable(drawn: tuple[list[Message], list[int], list[list[int]], list[int]]) -> None:
    messages, starts, paths, ticks = drawn

    def wire(link: int) -> Wire:
        busy, latency, early = ticks[3 * link : 3 * link + 3]
        return Wire(
            (0, link, 0),
            lambda n: busy * n,
            lambda n: busy * n + latency,
            lambda n: max(0, busy * n + latency - early),
            latency,
            (0, link % 4, 0),
        )

    wires = [wire(link) for link in range(5)]
    numbers = {id(message): number for number, message in enumerate(messages)}

    def path(message: Message) -> list[Wire]:
        return [wires[link] for link in paths[numbers[id(message)]]]

    answers = [how(messages, starts, path, lambda message: message.n_bytes % 2) for how in (play, naive_messages.play)]
    assert answers[0].ticks == answers[1].ticks
    assert answers[0].received == answers[1].received
    sent = {name: n for name, n in answers[1].link_ticks.items() if n}
    assert {name: n for name, n in answers[0].link_ticks.items() if n} == sent
