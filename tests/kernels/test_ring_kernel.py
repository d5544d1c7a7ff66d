"""The recursion around a ring equals the readable event-by-event simulation of its messages."""

from __future__ import annotations

import naive_messages
import numpy as np
from depth import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.components.network.collective import Message, Phase, messages_of, ring_sizes
from archsim.components.network.ring_kernel import pass_on
from archsim.components.network.topology import DimensionSpec, Span
from archsim.model.network import Wire

LINK = {"kind": "link", "bandwidth": "1 GB/s", "latency": "0 s"}


@settings(max_examples=examples(200), deadline=None)
@given(
    st.data(),
    st.integers(2, 5),
    st.sampled_from(["reduce_scatter", "all_gather", "all_reduce", "all_to_all"]),
    st.sampled_from(["ring", "switch"]),
    st.integers(1, 3),
    st.integers(0, 40),
)
def test_recursion_equals_events(
    data: st.DataObject, ranks: int, name: str, topology: str, pieces: int, n_bytes: int
) -> None:
    row = {"topology": topology, "ranks": ranks, "link": LINK, "algorithm": "ring", "pieces": pieces}
    dimension = DimensionSpec.model_validate(row)
    phase = Phase(name, Span(0, ranks), n_bytes)
    hops = 2 if topology == "switch" else 1
    ticks = st.integers(0, 6)
    starts = [data.draw(st.integers(0, 30)) for _ in range(ranks)]
    rate = [[data.draw(ticks) for _ in range(ranks)] for _ in range(hops)]
    latency = [[data.draw(ticks) for _ in range(ranks)] for _ in range(hops)]
    through, use = data.draw(st.booleans()), data.draw(ticks)
    wires = [
        [
            Wire(
                (0, hop, rank),
                lambda n, r=rate[hop][rank]: n * r,
                lambda n, r=rate[hop][rank], late=latency[hop][rank]: n * r + late,
                lambda n, r=rate[hop][rank], late=latency[hop][rank]: late if through else n * r + late,
                latency[hop][rank],
            )
            for rank in range(ranks)
        ]
        for hop in range(hops)
    ]

    def path(message: Message) -> list[Wire]:
        return [wires[hop][message.source] for hop in range(hops)]

    messages = messages_of(phase, dimension, 0, tuple(range(ranks)))
    naive = naive_messages.play(messages, starts, path, lambda message: use)
    sizes = ring_sizes(phase, dimension)
    distinct = sorted(set(sizes))

    def table(how: str) -> np.ndarray:
        return np.array([[[getattr(wire, how)(n) for n in distinct] for wire in hop] for hop in wires], dtype=np.int64)

    ends, received, occupied = pass_on(
        np.array(starts),
        np.zeros((hops, ranks), dtype=np.int64),
        np.array([distinct.index(n) for n in sizes], dtype=np.int64),
        1 if name == "all_to_all" else pieces,
        True,
        table("busy"),
        table("arrival"),
        table("head"),
        np.array(latency),
        use,
    )
    assert tuple(ends.tolist()) == naive.ticks
    assert tuple(received.tolist()) == naive.received
    busy = {(0, hop, rank): int(occupied[hop, rank]) for hop in range(hops) for rank in range(ranks)}
    assert busy == {name: naive.link_ticks.get(name, 0) for name in busy}
