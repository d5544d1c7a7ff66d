"""What a step of training is made of: kernels by their shapes, exchanges by their bytes."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias


class Product(NamedTuple):
    """``groups`` products [m, k] x [k, n] in one kernel; ``out_bytes``: of an element of the result.

    ``experts``: the groups are experts, whose tokens are gathered.
    """

    m: int
    k: int
    n: int
    groups: int
    dtype: str
    out_bytes: float
    experts: bool = False


class Flash(NamedTuple):
    """Attention that stores no scores, forward or backward; ``dtype`` of queries, keys and values."""

    batch: int
    heads: int
    kv_heads: int
    head_dim: int
    v_head_dim: int
    queries: int
    keys: int
    causal: bool
    window: int | None
    backward: bool
    dtype: str = "bf16"
    library: str = ""


class Rows(NamedTuple):
    """A kernel that streams through memory: a row-wise function, a copy, an optimizer.

    Attributes
    ----------
    family: of the kernel, which sets its rates. bytes: read and written. element: bytes of an element.
    """

    family: str
    bytes: int
    element: int = 4


class Exchange(NamedTuple):
    """A collective of a group of ranks (tensor, context, expert); ``bytes`` as for networks: payload of a rank."""

    collective: str
    bytes: int
    group: str


Work: TypeAlias = Product | Flash | Rows | Exchange


class Kernel(NamedTuple):
    """Some work, and what the host does for it.

    Attributes
    ----------
    launches: calls of the host. beside: an exchange that runs beside the computing around it, as far as that lasts.
    """

    name: str
    work: Work
    launches: float = 1
    beside: bool = False


Kernels: TypeAlias = tuple[Kernel, ...]


def flops(work: Work) -> int:
    """Floating-point operations, multiply and add counted apart; those that streams do are not counted."""
    match work:
        case Product():
            return 2 * work.groups * work.m * work.k * work.n
        case Flash():
            pairs = pairs_of(work.queries, work.keys, work.causal, work.window)
            passes = 5 if work.backward else 2  # products of [queries, keys] by a head's width
            return int(passes * work.batch * work.heads * pairs * (work.head_dim + work.v_head_dim))
        case _:
            return 0


def pairs_of(queries: int, keys: int, causal: bool, window: int | None) -> float:
    """Pairs of a query and a key that it sees; causal ones cost half of all, as kernels and papers count."""
    if window is not None and window < keys:
        return queries * (window - window * (window - 1) / 2 / max(queries, 1)) if causal else queries * window
    return queries * (keys - (queries - 1) / 2) if causal else queries * keys
