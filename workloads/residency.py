"""What stays in a near memory when things are used one after the other, and what moves for it.

*Things* (layers, experts, models) are used in a known order or one that shows itself; a near memory has room for some.
A use of a thing that is not there fetches it; for that others leave, by a policy. What was written while it was near is
written back when it leaves, unless its copy in the far memory is as good (weights).
"""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter, defaultdict, deque
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Annotated, ClassVar, Literal, NamedTuple, TypeAlias

from pydantic import AfterValidator, Field, model_validator

from archsim import registry
from archsim.errors import InputError
from archsim.spec import Count, Share, Spec
from archsim.units import Bytes, si

Thing: TypeAlias = Hashable


def _registered(name: str) -> str:
    """The name, if a policy has it."""
    registry.find("archsim.policies", name)
    return name


PolicyName: TypeAlias = Annotated[str, AfterValidator(_registered)]


class WidthSpec(Spec):
    """A share of experts and the bits of their weights."""

    bits: Count
    """of a weight"""
    share: Share
    """of the experts, or of the visits to them"""


class ResidencySpec(Spec):
    """What stays near of weights that live elsewhere."""

    policy: PolicyName = "streaming"
    """who leaves when room is needed: streaming (all, once used), pinned (who came last), lru, lfu, belady (who is not
    used for longest, the bound for things of one size), or one of another package"""
    room: Bytes | None = None
    """of the near memory, for what is fetched; without it that of the layers that are fetched ahead and of the one that
    computes when streaming, else all that weights, KV cache and activations leave"""
    things: Literal["layers", "experts"] = "layers"
    """what is fetched: all weights of a layer, or those of the experts that its tokens visit; the rest of such a layer
    stays near"""
    written: bool = False
    """each use of a layer changes its weights, as tuning does: they go back to where they live before their room is
    free, when streaming right after their use"""
    predicted: Annotated[float, Field(ge=0, le=1)] = 0.0
    """share of visited experts that are known before the layer's router has run, and fetched ahead"""
    skew: Annotated[float, Field(ge=0, le=8)] = 0.0
    """exponent of the Zipf law by which experts of a layer are visited from step to step; 0: all alike"""
    seed: Annotated[int, Field(ge=0, le=2**63)] = 0
    """of the draws of visited experts"""
    widths: tuple[WidthSpec, ...] = ()
    """bits in which experts' weights are stored where they live, and kept near; what computes widens them. As wide as
    they are computed when empty"""
    nested: bool = False
    """the bits of a narrow expert are the first ones of a wide one: all are stored in the widest of ``widths``, which
    are then what visits ask for, drawn anew for each; only bits that are not near are fetched"""
    rules: dict[str, str] = Field(default_factory=dict)
    """pattern of names of layers (layer.3, layer.1?, *) to the memory that they live in, before shares are dealt; the
    first that fits counts. A block that is no layer, such as head, is fetched like one if a rule has its name"""

    @model_validator(mode="after")
    def _of_layers(self) -> ResidencySpec:
        if self.written and self.things == "experts":
            raise ValueError("'written': weights go back layer by layer, things: layers")
        if self.widths and self.things != "experts":
            raise ValueError("'widths' are those of experts: things: experts")
        if self.widths and abs(sum(self.shares.values()) - 1) > 1e-9:
            raise ValueError(f"'widths': shares add up to {sum(self.shares.values()):.6g}, not to 1")
        if self.nested and not self.widths:
            raise ValueError("'nested' bits are of 'widths', and there are none")
        return self

    @property
    def shares(self) -> dict[int, float]:
        """Bits to their share, the narrowest first."""
        return {width.bits: width.share for width in sorted(self.widths, key=lambda width: width.bits)}

    def stored_bits(self, experts: int, bits: int) -> list[int]:
        """Of the weights of each expert where it lives, dealt by shares; ``bits``: as they are computed."""
        if not self.widths or self.nested:
            return [max(self.shares, default=bits)] * experts
        dealt = dict.fromkeys(reversed(self.shares), 0)
        found = []
        for number in range(1, experts + 1):
            width = max(dealt, key=lambda w: self.shares[w] * number - dealt[w])
            dealt[width] += 1
            found.append(width)
        return found


class Use(NamedTuple):
    """A use of a thing of so many bytes; ``writes``: its far copy is no longer good then."""

    thing: Thing
    bytes: int
    writes: bool = False


class Outcome(NamedTuple):
    """What a use did.

    Attributes
    ----------
    fetched: bytes that came. written: bytes that were written back to make room. left: things that left for it.
    since: the last use before it that must have ended before it can come; -1: none.
    """

    fetched: int
    written: int
    left: tuple[Thing, ...]
    since: int


class Policy:
    """Says who leaves; remembers, so each replay has one of its own.

    Parameters
    ----------
    uses: all of them, in order; what a policy knows of the future it takes from here.

    Attributes
    ----------
    keeps: whether a thing stays after its use, for the next one.
    """

    keeps: ClassVar[bool] = True

    def __init__(self, uses: Sequence[Use]) -> None:
        self.uses = uses

    def used(self, thing: Thing, at: int) -> None:
        """A thing is used."""

    @abstractmethod
    def victim(self, held: Mapping[Thing, int], at: int) -> Thing:
        """Who leaves, of things to their bytes in the order in which they came."""


class LeastRecentlyUsed(Policy):
    """Who has not been used for longest."""

    def __init__(self, uses: Sequence[Use]) -> None:
        super().__init__(uses)
        self._last: dict[Thing, int] = {}

    def used(self, thing: Thing, at: int) -> None:
        self._last[thing] = at

    def victim(self, held: Mapping[Thing, int], at: int) -> Thing:
        return min(held, key=lambda thing: self._last.get(thing, -1))


class LeastFrequentlyUsed(Policy):
    """Who has been used least often so far; of several the one that came first."""

    def __init__(self, uses: Sequence[Use]) -> None:
        super().__init__(uses)
        self._count: Counter[Thing] = Counter()

    def used(self, thing: Thing, at: int) -> None:
        self._count[thing] += 1

    def victim(self, held: Mapping[Thing, int], at: int) -> Thing:
        return min(held, key=lambda thing: self._count[thing])


class Belady(Policy):
    """Who will not be used for longest (Belady 1966): of things of one size no policy fetches less."""

    def __init__(self, uses: Sequence[Use]) -> None:
        super().__init__(uses)
        self._ahead: dict[Thing, deque[int]] = defaultdict(deque)
        for i, use in enumerate(uses):
            self._ahead[use.thing].append(i)

    def _next(self, thing: Thing, at: int) -> int:
        ahead = self._ahead[thing]
        while ahead and ahead[0] <= at:
            ahead.popleft()
        return ahead[0] if ahead else len(self.uses)

    def victim(self, held: Mapping[Thing, int], at: int) -> Thing:
        return max(held, key=lambda thing: self._next(thing, at))


class Pinned(Policy):
    """Who came last: what came first stays for good, the rest passes through what it leaves."""

    def victim(self, held: Mapping[Thing, int], at: int) -> Thing:
        return next(reversed(list(held)))


class Streaming(Policy):
    """All: a thing leaves when it has been used, and comes again for its next use."""

    keeps = False

    def victim(self, held: Mapping[Thing, int], at: int) -> Thing:
        return next(iter(held))


def policy_of(name: str, uses: Sequence[Use]) -> Policy:
    """The policy of that name: ours or anybody's.

    Raises
    ------
    InputError: there is none; tells the nearest.
    """
    policy: Policy = registry.find("archsim.policies", name)(uses)
    return policy


def replay(
    uses: Sequence[Use], room_bytes: int, policy: Policy, start: Iterable[Use] = (), together: Sequence[int] = ()
) -> list[Outcome]:
    """What each use does.

    Parameters
    ----------
    room_bytes: of the near memory. start: what is there before the first use, in the order in which it came.
    together: number of the group of each use, whose things are near at the same time; each is alone when empty.

    Raises
    ------
    InputError: what is used together is larger than the room.
    """
    groups = together or range(len(uses))
    members: dict[int, dict[Thing, int]] = defaultdict(dict)
    for group, use in zip(groups, uses, strict=True):
        members[group][use.thing] = use.bytes
    for things in members.values():
        if sum(things.values()) > room_bytes:
            need, room = si(sum(things.values()), "B", 4), si(room_bytes, "B", 4)
            raise InputError(
                f"{', '.join(map(str, things))}: {need} used at a time do not fit the {room} that are kept for what is "
                "fetched"
            )
    held = {use.thing: use.bytes for use in start}
    taken = sum(held.values())
    last: dict[Thing, int] = {}
    dirty: set[Thing] = set()
    gone: deque[int] = deque()  # used and not kept: their room is there once their use has ended
    for thing in held:
        policy.used(thing, -1)
    outcomes: list[Outcome] = []
    for at, use in enumerate(uses):
        left: list[Thing] = []
        fetched = written = 0
        since = -1
        if use.thing not in held:
            fetched = use.bytes
            mine = members[groups[at]]
            while taken + use.bytes > room_bytes:
                if gone:
                    until = gone.popleft()
                    victim, size, wrote = uses[until]
                else:
                    victim = policy.victim({thing: size for thing, size in held.items() if thing not in mine}, at)
                    size, until, wrote = held.pop(victim), last.get(victim, -1), victim in dirty
                    dirty.discard(victim)
                taken -= size
                left.append(victim)
                since = max(since, until)
                written += size if wrote else 0
            held[use.thing] = use.bytes
            taken += use.bytes
        policy.used(use.thing, at)
        last[use.thing] = at
        if use.writes and policy.keeps:
            dirty.add(use.thing)
        if not policy.keeps:
            gone.append(at)
            del held[use.thing]
        outcomes.append(Outcome(fetched, written, tuple(left), since))
    return outcomes
