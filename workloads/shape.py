"""What an iteration of an engine computes, in a few numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from archsim.workloads.kv_blocks import BLOCK_TOKENS

HALVED = 256
"""Tokens, of multiples of which halves are taken: TokenWeave's, of tiles of 128 rows"""

_SIZES = np.array([1, 2, 4, *range(8, 257, 8), *range(272, 513, 16)])
"""Tokens of captured graphs, vLLM's default"""
_GRAIN = 64  # beyond them kernels come in tiles of as many rows


def padded(tokens: int) -> int:
    """Tokens that an iteration computes: those of the smallest graph that holds it."""
    if tokens > _SIZES[-1]:
        return -(-tokens // _GRAIN) * _GRAIN
    return int(_SIZES[np.searchsorted(_SIZES, tokens)])


def whole_blocks(tokens: int) -> int:
    """Tokens of whole blocks of the KV cache."""
    return -(-tokens // BLOCK_TOKENS) * BLOCK_TOKENS


@dataclass(frozen=True)
class Shape:
    """What an iteration computes.

    Attributes
    ----------
    decodes: sequences that decode, ``queries`` tokens each (drafts included), over ``keys`` keys each.
    prompts: sequences, their new tokens, and the keys that the last of them sees, in any order.
    finished: prompts that are complete with it, whose first token it gives.
    fetched, stored: blocks of the KV cache that are copied from and to a farther memory before it.
    group: new tokens of all replicas of attention among shared experts, where others have fewer; 0: each has as many.
    """

    decodes: int = 0
    keys: int = 0
    queries: int = 1
    prompts: tuple[tuple[int, int, int], ...] = ()
    finished: int = 0
    fetched: int = 0
    stored: int = 0
    group: int = 0

    @property
    def sequences(self) -> int:
        """Those that decode, and prompts."""
        return self.decodes + sum(n for n, _, _ in self.prompts)

    @property
    def tokens(self) -> int:
        """New tokens, padded."""
        return padded(self.decodes * self.queries + sum(n * q for n, q, _ in self.prompts))

    @property
    def half_tokens(self) -> tuple[int, int]:
        """Those of its two halves, padded together."""
        first = -(-self.tokens // HALVED) * HALVED // 2
        return first, self.tokens - first

    def halves(self) -> tuple[Shape, Shape]:
        """What the first half of its tokens are, and the others: sequences that decode come first."""
        left = self.half_tokens[0]
        decodes = min(self.decodes, left // self.queries)
        left -= decodes * self.queries
        first, second = list[tuple[int, int, int]](), list[tuple[int, int, int]]()
        for count, new, keys in self.prompts:
            whole = min(count, left // new)
            cut = left - whole * new if whole < count else 0
            left -= whole * new + cut
            first += [(whole, new, keys)] * (whole > 0) + [(1, cut, keys - new + cut)] * (cut > 0)
            rest = count - whole - (cut > 0)
            second += [(1, new - cut, keys)] * (cut > 0) + [(rest, new, keys)] * (rest > 0)
        alone = replace(self, finished=0, fetched=0, stored=0)
        return (
            replace(alone, decodes=decodes, prompts=tuple(first)),
            replace(alone, decodes=self.decodes - decodes, prompts=tuple(second)),
        )

    @property
    def sampled(self) -> int:
        """Rows of the LM head, padded; a chunk of a prompt has one too."""
        return padded(self.decodes * self.queries + sum(n for n, _, _ in self.prompts))

    @property
    def drafting(self) -> int:
        """Sequences that tokens are drafted for, padded."""
        return padded(self.decodes) if self.queries > 1 and self.decodes else 0

    @property
    def copies(self) -> tuple[bool, bool]:
        """Whether blocks are stored, and whether some are fetched."""
        return self.stored > 0, self.fetched > 0

    @property
    def kind(self) -> str:
        """What it is called."""
        return "decode" if not self.prompts else "mixed" if self.decodes else "prefill"
