"""Which rank of an expert-parallel group holds which experts, and which are held more than once.

Copies go to the experts that have most tokens each (as DeepSeek's EPLB gives them out); copies of an expert share its
tokens evenly. Experts and copies are then packed onto ranks with equally many slots: *in order*; *greedy*, heaviest
first to the lightest rank with room; or by *programme*, an integer programme that makes the busiest rank as light as
can be::

    >>> from archsim.workloads.expert_placement import balance, place
    >>> balance(place([90, 10, 10, 50], ranks=2, redundant=2))
    1.0
    >>> balance(place([90, 10, 10, 50], ranks=2))
    0.8

Where the tokens of an expert go on to is a second reason to hold two experts on one rank: :func:`follow` places the
experts of consecutive layers so that tokens seldom change ranks (inter-layer affinity; ExFlow, IPDPS 2024).
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from archsim.errors import InputError

Packing: TypeAlias = Literal["in_order", "greedy", "programme"]

_GAP = 1e-3  # a busiest rank within 0.1% of the bound is even enough
_ROUNDING = 1e-12
_NODES = 20  # of the branch and bound; a limit in seconds would not give the same answer twice


def place(
    counts: Sequence[int], ranks: int, redundant: int = 0, shared: Sequence[int] = (), how: Packing | None = None
) -> list[tuple[int, ...]]:
    """Tokens of each expert (or copy) of each rank.

    Parameters
    ----------
    counts: tokens of each expert. ranks: of the group.
    redundant: further copies. shared: tokens of each copy of a shared expert.
    how: of the packing; greedy with copies and in order without when absent.

    Raises
    ------
    InputError: the experts and copies do not divide among the ranks, or the solver is not installed.
    """
    held = len(counts) + redundant + len(shared)
    slots, rest = divmod(held, ranks)
    if rest:
        copies = f" and {redundant + len(shared)} copies" if held > len(counts) else ""
        raise InputError(
            f"{len(counts)} experts{copies} do not divide among {ranks} ranks: expert_parallel must divide {held}"
        )
    pieces = [
        (count + part) // copies
        for count, copies in zip(counts, replicas(counts, redundant), strict=True)
        for part in range(copies)
    ] + list(shared)
    return pack(pieces, ranks, slots, how or ("in_order" if held == len(counts) else "greedy"))


def replicas(counts: Sequence[int], redundant: int) -> list[int]:
    """Copies of each expert: each further one goes to the expert whose copies have the most tokens."""
    copies = [1] * len(counts)
    heaviest = [(-count, expert) for expert, count in enumerate(counts)]
    heapq.heapify(heaviest)
    for _ in range(redundant):
        _, expert = heaviest[0]
        copies[expert] += 1
        heapq.heapreplace(heaviest, (counts[expert] // -copies[expert], expert))
    return copies


def pack(pieces: Sequence[int], ranks: int, slots: int, how: Packing) -> list[tuple[int, ...]]:
    """Pieces onto ranks of so many slots each; a slot may stay empty.

    Raises
    ------
    InputError: there are more pieces than slots, or the solver is not installed.
    """
    if len(pieces) > ranks * slots:
        raise InputError(
            f"{len(pieces)} experts and copies are more than the {ranks * slots} slots of {ranks} ranks "
            f"({slots} a rank)"
        )
    if how == "in_order":
        return [tuple(pieces[rank * slots : (rank + 1) * slots]) for rank in range(ranks)]
    greedy = _greedy(pieces, ranks, slots)
    return greedy if how == "greedy" else _programme(pieces, ranks, slots, greedy)


def follow(
    transitions: Sequence[npt.NDArray[np.float64]], ranks: int, cost: npt.NDArray[np.float64] | None = None
) -> list[npt.NDArray[np.int64]]:
    """Rank of each expert of each layer, equally many a rank, so that tokens go on cheaply from layer to layer.

    Parameters
    ----------
    transitions: for each two consecutive layers, [expert, expert of the next layer] tokens that visit both.
    cost: [rank, rank] what a token costs that goes from one to the other; 1 for another rank when absent.

    Begins with experts in order and places one layer after the other anew, the best for its neighbours as they stand
    (an assignment problem, solved exactly), until no layer gains: no placement of a single layer is better, one of
    several layers at once may be.

    Raises
    ------
    InputError: the experts do not divide among the ranks, or the solver is not installed.
    """
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError:
        raise InputError("placement by affinity needs SciPy: pip install 'archsim[placement]'") from None
    experts = [len(transitions[0]), *(len(between.T) for between in transitions)]
    if any(count % ranks for count in experts):
        raise InputError(f"{max(experts)} experts do not divide among {ranks} ranks")
    price = 1.0 - np.eye(ranks) if cost is None else cost
    placed = [np.arange(count) // (count // ranks) for count in experts]
    gained = True
    while gained:
        gained = False
        for layer, count in enumerate(experts):
            wanted = np.zeros((count, ranks))  # what the layer's experts would cost on each rank
            if layer:
                wanted += transitions[layer - 1].T @ price[placed[layer - 1]]
            if layer < len(transitions):
                wanted += transitions[layer] @ price.T[placed[layer + 1]]
            slots = np.repeat(np.arange(ranks), count // ranks)
            better = slots[linear_sum_assignment(wanted[:, slots])[1]]
            now, then = (float(wanted[np.arange(count), where].sum()) for where in (placed[layer], better))
            if then < now * (1 - _ROUNDING):  # one that costs as much could cost its neighbours theirs
                placed[layer], gained = better, True
    return placed


def routing_cost(
    transitions: Sequence[npt.NDArray[np.float64]],
    placed: Sequence[npt.NDArray[np.int64]],
    cost: npt.NDArray[np.float64],
) -> float:
    """What the tokens' ways from layer to layer cost together; as of :func:`follow`."""
    pairs = zip(transitions, placed[:-1], placed[1:], strict=True)
    return float(sum((tokens * cost[np.ix_(here, there)]).sum() for tokens, here, there in pairs))


def balance(loads: Sequence[tuple[int, ...]]) -> float:
    """Mean load over that of the busiest rank: 1 when all have equally much."""
    sums = [sum(load) for load in loads]
    return sum(sums) / len(sums) / max(sums) if max(sums) else 1.0


def busiest(loads: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The load of the rank that the others wait for: most tokens, then most experts with any."""
    return max(loads, key=lambda load: (sum(load), sum(1 for rows in load if rows)))


def _greedy(pieces: Sequence[int], ranks: int, slots: int) -> list[tuple[int, ...]]:
    loads: list[list[int]] = [[] for _ in range(ranks)]
    lightest = [(0, rank) for rank in range(ranks)]  # of those with room: tokens, and the number
    for piece in sorted(pieces, reverse=True):
        tokens, rank = heapq.heappop(lightest)
        loads[rank].append(piece)
        if len(loads[rank]) < slots:
            heapq.heappush(lightest, (tokens + piece, rank))
    return [tuple(load) for load in loads]


def _programme(pieces: Sequence[int], ranks: int, slots: int, greedy: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """The packing whose busiest rank is the lightest; the greedy one where the search ends without a lighter one.

    Unknowns: whether piece p is on rank r, and the load of the busiest rank. Each piece is on one rank, no rank has
    more pieces than slots or more load than the busiest.
    """
    try:
        from scipy.optimize import Bounds, LinearConstraint, milp
        from scipy.sparse import csr_matrix, hstack, identity, kron
    except ImportError:
        raise InputError(
            "placement by integer programming needs SciPy (HiGHS): pip install 'archsim[placement]'"
        ) from None
    most = max(sum(load) for load in greedy)
    least = max(-(-sum(pieces) // ranks), max(pieces, default=0))
    if most <= least * (1 + _GAP):
        return greedy
    n = len(pieces)
    one_rank = hstack([kron(identity(n), np.ones((1, ranks))), csr_matrix((n, 1))])
    room = hstack([kron(np.ones((1, n)), identity(ranks)), csr_matrix((ranks, 1))])
    load = hstack([kron(np.array([pieces], dtype=float) / most, identity(ranks)), -np.ones((ranks, 1))])
    solved = milp(
        c=np.append(np.zeros(n * ranks), 1.0),
        constraints=[
            LinearConstraint(one_rank.tocsr(), 1, 1),
            LinearConstraint(room.tocsr(), 0, slots),
            LinearConstraint(load.tocsr(), -np.inf, 0),
        ],
        integrality=np.append(np.ones(n * ranks), 0),
        bounds=Bounds(np.append(np.zeros(n * ranks), least / most), np.append(np.ones(n * ranks), 1.0)),
        options={"mip_rel_gap": _GAP, "node_limit": _NODES},
    )
    if solved.x is None:
        return greedy
    held = np.rint(solved.x[:-1].reshape(n, ranks)).astype(bool)
    tokens = np.array(pieces)
    found = [tuple(sorted(tokens[held[:, rank]].tolist(), reverse=True)) for rank in range(ranks)]
    return found if max(sum(load) for load in found) < most else greedy
