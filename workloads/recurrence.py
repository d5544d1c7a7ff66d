"""Layers that keep a state of fixed size for each sequence in place of keys and values.

A head has a state [state, head_dim]. With each token it is scaled, a product of a key and a value is added, and a
query reads it: Mamba-2 (Dao and Gu, ICML 2024, arXiv 2405.21060). The gated delta rule reads it once more, by the key,
so that what is added is what is missing (Yang et al., ICLR 2025, arXiv 2412.06464). A convolution over the last few
tokens goes before. Prompts are computed in chunks, whose tokens meet each other as in attention and the state as
products.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from archsim.spec import Count, Spec
from archsim.workloads.dims import Dim
from archsim.workloads.op import DType, Op, Role

STATE_DTYPE = DType.FP32
"""of states, as the models' configs ask for (mamba_ssm_dtype)"""
CHUNKS = {"gated_delta": 64, "mamba2": 128}
"""Tokens of a chunk: of flash-linear-attention's kernels, and ``chunk_size`` of Mamba-2's configs."""


class RecurrentSpec(Spec):
    """Layers that keep a state."""

    kind: Literal["gated_delta", "mamba2"]
    """the rule by which a state changes"""
    heads: Count
    """heads, each with a value and a state"""
    head_dim: Count
    """width of a value"""
    key_heads: Count
    """heads of queries and keys, each of several values' (Mamba-2: groups)"""
    state: Count
    """width of a query and a key"""
    convolution: Annotated[int, Field(ge=1, le=64)] = 4
    """tokens that the convolution before looks at"""

    @property
    def values(self) -> int:
        """Width of all values."""
        return self.heads * self.head_dim

    @property
    def channels(self) -> int:
        """Width that the convolution goes over: queries, keys and values."""
        return 2 * self.key_heads * self.state + self.values

    @property
    def scalars(self) -> int:
        """Numbers of a head that are computed from each token: a step, or a decay and a rate."""
        return 2 if self.kind == "gated_delta" else 1

    @property
    def taps(self) -> int:
        """Numbers of a channel of the convolution; Mamba-2's has a bias."""
        return self.convolution + (self.kind == "mamba2")

    @property
    def constants(self) -> int:
        """Learned numbers of a head: a decay and a bias; Mamba-2 has a skip as well."""
        return 2 if self.kind == "gated_delta" else 3

    def parameters(self, hidden: int) -> int:
        """Of a layer but its norm before."""
        projected = hidden * (self.channels + self.values + self.scalars * self.heads) + self.values * hidden
        normed = self.head_dim if self.kind == "gated_delta" else self.values
        return projected + self.taps * self.channels + self.constants * self.heads + normed

    def state_bytes(self, ranks: int) -> int:
        """What a rank keeps of a sequence in a layer: its heads' states, and the last inputs of the convolution."""
        states = STATE_DTYPE.bytes(self.values // ranks * self.state)
        return int(states + DType.BF16.bytes(self.channels // ranks * (self.convolution - 1)))


@dataclass(frozen=True, kw_only=True)
class Recurrence(Op):
    """States of ``sequences`` read, changed by ``tokens`` new tokens of all, and written.

    Attributes
    ----------
    heads, head_dim, state: of the states; key_heads: of queries and keys. delta: whether the rule reads the state by
    the key. chunk: tokens that are computed together; 1: one after the other.
    """

    tokens: Dim
    sequences: Dim
    heads: int
    head_dim: int
    key_heads: int
    state: int
    delta: bool
    chunk: int = 1
    dtype: DType = DType.BF16
    kind: ClassVar[str] = "recurrence"

    def macs(self) -> Dim:
        """Multiply-accumulates."""
        passes = 3 if self.delta else 2  # add, read, and read by the key
        each = passes * self.heads * self.state * self.head_dim
        if self.chunk > 1:  # within a chunk each token meets half of the others on average; whole blocks are computed
            met = self.key_heads * self.state + self.heads * self.head_dim
            if self.delta:  # keys meet keys, and what is missing of keys and values is solved for
                met += self.key_heads * self.state + self.heads * (self.state + self.head_dim)
            each += self.chunk * met
        return self.tokens * each

    def flops(self) -> Dim:
        return 2 * self.macs()

    def _state_bytes(self) -> Dim:
        return STATE_DTYPE.bytes(self.sequences * (self.heads * self.head_dim * self.state))

    def reads(self) -> dict[Role, Dim]:
        width = 2 * self.key_heads * self.state + self.heads * self.head_dim
        return {
            Role.ACTIVATION: self.dtype.bytes(self.tokens * width),
            Role.KV: self._state_bytes(),
        }

    def writes(self) -> dict[Role, Dim]:
        made = self.dtype.bytes(self.tokens * (self.heads * self.head_dim))
        return {Role.ACTIVATION: made, Role.KV: self._state_bytes()}
