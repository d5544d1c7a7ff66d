"""A cache that goes from the chips that computed a prompt to those that answer."""

from __future__ import annotations

from functools import cached_property

from archsim.errors import InputError
from archsim.machine import Machine
from archsim.serving.deploy import Deployment, chip_named, placed, system_of
from archsim.workloads.rank_memory import kv_bytes


class Side:
    """One end of a handover: the chips of a replica, each with its own way out, the longest one of their system.

    Raises
    ------
    InputError: such chips are joined by no network.
    """

    def __init__(self, asked: Deployment) -> None:
        self.ranks = asked.tensor * asked.stages  # that hold the cache of a sequence
        system = system_of(chip_named(asked.chip), max(asked.ranks, 2))
        if system.network is None:
            raise InputError(f"a cache leaves its chips over a network, and system '{system.name}' has none")
        self.asked, self._machine = asked, Machine(system)
        self._known: dict[int, int] = {}

    @cached_property
    def _token_bytes(self) -> tuple[int, int]:
        """Bytes of all ranks: of 16 tokens, and of the states of a sequence."""
        ops = placed(self.asked).deployed.ops
        return self.asked.tensor * kv_bytes(ops, [(1, 16)]), self.asked.tensor * ops.state_bytes

    def bytes(self, tokens: int) -> int:
        """Of the cache of a sequence of so many tokens."""
        block, states = self._token_bytes
        return -(-tokens // 16) * block + states

    def ps(self, n_bytes: int) -> int:
        """Time in which they send or receive so many bytes, each chip its part."""
        part = -(-n_bytes // self.ranks)
        if part not in self._known:
            network = self._machine.network
            if network is None:
                raise ValueError("a side has a network")
            ticks = network.send(0, network.ranks - 1, part).ticks
            self._known[part] = int(self._machine.time.whole_ps(ticks))
        return self._known[part]


def handover_ps(before: Side, after: Side, tokens: int) -> int:
    """Time of a cache of so many tokens from one side to the other, as long as the slower one takes."""
    moved = before.bytes(tokens)
    return max(before.ps(moved), after.ps(moved))
