"""The order of what waits for each other, by number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def orderly(after: Sequence[Iterable[int]]) -> list[int]:
    """Numbers in an order in which each comes after those that it waits for; without those that wait in a circle."""
    left = [0] * len(after)
    later: list[list[int]] = [[] for _ in after]
    for number, before in enumerate(after):
        for other in set(before):
            later[other].append(number)
            left[number] += 1
    ready = [number for number, count in enumerate(left) if not count]
    for number in ready:
        for other in later[number]:
            left[other] -= 1
            if not left[other]:
                ready.append(other)
    return ready


def circle(after: Sequence[Iterable[int]], order: Sequence[int]) -> list[int]:
    """Numbers that wait for each other, the first one again at the end; ``order``: those that do not."""
    stuck = set(range(len(after))) - set(order)
    if not stuck:
        return []
    here, place = min(stuck), dict[int, int]()
    while here not in place:
        place[here] = len(place)
        here = next(before for before in after[here] if before in stuck)
    return [*list(place)[place[here] :], here]
