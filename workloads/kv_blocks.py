"""The paged KV cache of an engine: blocks of tokens, taken and given back whole."""

from __future__ import annotations

BLOCK_TOKENS = 16
"""Tokens of a block, vLLM's default."""


class KVBlocks:
    """A pool of blocks.

    Attributes
    ----------
    total, free: blocks. taken + free = total at every time.
    """

    def __init__(self, total: int) -> None:
        self.total = self.free = total

    @property
    def taken(self) -> int:
        """Blocks in use."""
        return self.total - self.free

    def take(self, blocks: int) -> bool:
        """Take blocks, if there are so many."""
        if blocks > self.free:
            return False
        self.free -= blocks
        return True

    def give_back(self, blocks: int) -> None:
        """Give blocks back."""
        if blocks > self.taken:
            raise ValueError(f"{blocks} blocks are given back, {self.taken} are taken")
        self.free += blocks


def blocks_of(tokens: int) -> int:
    """Blocks that hold so many tokens."""
    return -(-tokens // BLOCK_TOKENS)
