"""Sequences of an engine: requests on their way through it, and how they decode."""

from __future__ import annotations

from dataclasses import dataclass, field

from archsim.workloads.kv_blocks import Contents, Holding

WHOLE = 10**6
"""of a token, as speculation counts them"""


@dataclass(frozen=True, slots=True)
class Speculation:
    """Tokens that are drafted and then checked together with the one that is known.

    Attributes
    ----------
    drafts: tokens that are drafted for a step. gain: tokens that a step gives on average, in parts of :data:`WHOLE`: a
    sequence has them evenly, as its share of the drafts that turn out right comes together.
    """

    drafts: int = 0
    gain: int = WHOLE

    @staticmethod
    def of(drafts: int, acceptance: float) -> Speculation:
        """Each draft is right so often where the one before is: 1 + a + a^2 + ... tokens a step (Leviathan et al.,
        ICML 2023, eq. 1)."""
        return Speculation(drafts, round(WHOLE * sum(acceptance**i for i in range(drafts + 1))))

    @property
    def queries(self) -> int:
        """Tokens of a sequence in a step."""
        return 1 + self.drafts

    def steps(self, tokens: int, credit: int) -> int:
        """Steps until a sequence with so much of a token has so many."""
        return max(1, -(-(tokens * WHOLE - credit) // self.gain))


PLAIN = Speculation()
"""A token a step."""


@dataclass(eq=False, slots=True)
class Served:
    """A request on its way through an engine.

    While it decodes (:mod:`archsim.workloads.decodes`) its ``cached``, ``produced``, ``credit`` and ``last_token_ps``
    are those of when it began to, or was last settled.

    Attributes
    ----------
    number: its place in the order of arrivals. input, output: tokens of prompt and answer.
    seen_ps: when the scheduler sees it, a while after its arrival.
    contents: whose tokens they are, see :mod:`archsim.workloads.kv_blocks`; nobody else's when empty.
    due_ps, expected: as of a request. alone_ps: time of it alone on the engine that has it, as far as is known before;
    told where it is due.
    cached: tokens whose keys are in the cache. produced: tokens of the answer so far. credit: of a further one, in
    parts of :data:`WHOLE`. reused, fetched: tokens of the prompt that were found in the cache, and in the farther
    memory. away: blocks of its cache that are there now. preempted, swapped: how often it lost its cache, and how often
    of that it was moved away. place: in the order in which sequences were admitted.
    scheduled_ps, first_token_ps, end_ps: when it was admitted, had its first token and its last; None: not yet.
    """

    number: int
    arrival_ps: int
    input: int
    output: int
    contents: Contents = ()
    seen_ps: int = 0
    cached: int = 0
    produced: int = 0
    credit: int = 0
    reused: int = 0
    fetched: int = 0
    away: int = 0
    preempted: int = 0
    swapped: int = 0
    place: int = 0
    scheduled_ps: int | None = None
    first_token_ps: int | None = None
    last_token_ps: int = 0
    end_ps: int | None = None
    due_ps: int | None = None
    expected: int | None = None
    alone_ps: int = 0
    holding: Holding = field(default_factory=Holding)

    @property
    def reckoned(self) -> int:
        """Tokens of its answer, as far as is known before it has come."""
        return self.output if self.expected is None else self.expected

    @property
    def most_tokens(self) -> int:
        """Tokens of prompt and answer that are cached at most; the last one never is."""
        return self.input + self.output - 1

    @property
    def left(self) -> int:
        """Known tokens that are not computed."""
        return self.input + self.produced - self.cached

    @property
    def decodes(self) -> bool:
        """Whether it goes on with its answer, a token a step."""
        return self.produced > 0 and self.input + self.produced - self.cached == 1
