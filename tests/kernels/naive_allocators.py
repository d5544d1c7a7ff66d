"""Allocators over sets of pairs: what the compiled ones must answer, written to be read."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from archsim.components.network.router_level.random_numbers import next_int

Wishes = dict[int, set[int]]
PAIRS = ("pim", "loa", "wavefront", "rr_wavefront", "max_size")
ROUNDS = {"islip", "select", "separable_output_first"}
"""Rounds of iSLIP, by name"""


def first_after(pointer: int, places: Iterable[int], count: int) -> int:
    """The first place from a round-robin pointer on."""
    return min(places, key=lambda place: (place - pointer) % count)


def islip(
    wishes: Wishes,
    input_turns: dict[int, int],
    output_turns: dict[int, int],
    inputs: int,
    outputs: int,
    rounds: int,
) -> dict[int, int]:
    """Input to output by iSLIP: outputs grant, inputs accept, round by round; pointers move in the first alone."""
    matched: dict[int, int] = {}
    for number in range(rounds):
        grants: dict[int, list[int]] = {}
        for output in range(outputs):
            asking = [i for i, wish in wishes.items() if output in wish and i not in matched]
            if asking and output not in matched.values():
                grants.setdefault(first_after(output_turns[output], asking, inputs), []).append(output)
        for i, given in grants.items():
            matched[i] = first_after(input_turns[i], given, outputs)
            if number == 0:
                input_turns[i], output_turns[matched[i]] = (matched[i] + 1) % outputs, (i + 1) % inputs
    return matched


class Pairs:
    """An allocator that looks at all pairs, of as many inputs as outputs."""

    def __init__(self, name: str, rounds: int, count: int, draws: npt.NDArray[np.int64]) -> None:
        self.name, self.rounds, self.count, self.draws = name, rounds, count, draws
        self.turn = 0
        self.input_turns, self.output_turns = [0] * count, [0] * count

    def match(self, wishes: Wishes) -> dict[int, int]:
        """Input to output."""
        match self.name:
            case "pim":
                return self.at_random(wishes)
            case "loa":
                return self.lonely(wishes)
            case "max_size":
                return self.largest(wishes)
        return self.wave(wishes)

    def at_random(self, wishes: Wishes) -> dict[int, int]:
        matched: dict[int, int] = {}
        for _ in range(self.rounds):
            granted: dict[int, int] = {}
            for output in range(self.count):
                first = next_int(self.draws, self.count)
                asking = [i for i, wish in wishes.items() if output in wish and i not in matched]
                if asking and output not in matched.values():
                    granted[output] = first_after(first, asking, self.count)
            for i in range(self.count):
                first = next_int(self.draws, self.count)
                given = [output for output, to in granted.items() if to == i]
                if given:
                    matched[i] = first_after(first, given, self.count)
        return matched

    def lonely(self, wishes: Wishes) -> dict[int, int]:
        wanted = {o: sum(o in wish for wish in wishes.values()) for o in range(self.count)}
        asks: dict[int, list[int]] = {}
        for i, wish in wishes.items():
            if wish:
                pick = min(wish, key=lambda o: (wanted[o], (o - self.input_turns[i]) % self.count))
                asks.setdefault(pick, []).append(i)
        matched = {}
        for output, rivals in asks.items():
            i = first_after(self.output_turns[output], rivals, self.count)
            matched[i] = output
            self.input_turns[i] = (self.input_turns[i] + 1) % self.count
            self.output_turns[output] = (self.output_turns[output] + 1) % self.count
        return matched

    def wave(self, wishes: Wishes) -> dict[int, int]:
        pairs = [(i, o) for i, wish in wishes.items() for o in wish]
        pairs.sort(key=lambda pair: ((sum(pair) - self.turn) % self.count, pair[1]))
        matched: dict[int, int] = {}
        first = None
        for i, o in pairs:
            if i not in matched and o not in matched.values():
                matched[i] = o
                first = i + o if first is None else first
        if first is not None:
            self.turn = ((first if self.name == "rr_wavefront" else self.turn) + 1) % self.count
        return matched

    def largest(self, wishes: Wishes) -> dict[int, int]:
        matched: dict[int, int] = {}
        while (path := self.shortest(wishes, matched)) is not None:
            matched.update(path)
        self.turn = (self.turn + 1) % self.count
        return matched

    def shortest(self, wishes: Wishes, matched: dict[int, int]) -> dict[int, int] | None:
        """What changes along a shortest augmenting path."""
        held = {o: i for i, o in matched.items()}
        free = [i for i in sorted(range(self.count), key=lambda i: (i - self.turn) % self.count) if i not in matched]
        came: dict[int, int] = {}
        front = free
        while front:
            following = []
            for i in front:
                for o in sorted(wishes.get(i, ())):
                    if o in came or matched.get(i) == o:
                        continue
                    came[o] = i
                    if o not in held:
                        changed = {}
                        while True:
                            i = came[o]
                            changed[i] = o
                            if i not in matched:
                                return changed
                            o = matched[i]
                    following.append(held[o])
            front = following
        return None
