"""Double binary trees: two in-order trees over the same ranks, in which no rank but two does the inner work of both.

Sanders, Speck, Träff 2009; NCCL's and ASTRA-sim's large all-reduces go over them. In an in-order tree over 0, 1, ...
the odd ranks are leaves or the even ones are, so a rank that forwards in one tree is a leaf of the other. The trees are
NCCL's (src/graph/trees.cc): rank 0 above a tree of the others by the lowest bit that is set, and the same mirrored over
an even number of ranks, or moved on by one rank over an odd one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from archsim.errors import InputError


@dataclass(frozen=True)
class BinaryTree:
    """A tree over ranks 0 to n - 1.

    Attributes
    ----------
    parent: of each rank, -1 for the root. children: of each rank, from left to right.
    """

    root: int
    parent: tuple[int, ...]
    children: tuple[tuple[int, ...], ...]


def double_binary_tree(ranks: int) -> tuple[BinaryTree, BinaryTree]:
    """The two trees over any number of ranks, the one rooted at rank 0 last."""
    if ranks < 2:
        raise InputError(f"a double binary tree needs at least two ranks, not {ranks}")
    above = [_above(rank, ranks) for rank in range(ranks)]
    if ranks % 2:
        other = [-1 if above[rank - 1] < 0 else (above[rank - 1] + 1) % ranks for rank in range(ranks)]
    else:
        other = [-1 if up < 0 else ranks - 1 - up for up in reversed(above)]
    return _tree(other), _tree(above)


def _above(rank: int, ranks: int) -> int:
    """The rank above: its lowest bit moved up, or taken away where there are not so many ranks."""
    if rank == 0:
        return -1
    bit = rank & -rank
    up = (rank ^ bit) | bit << 1
    return up if up < ranks else rank ^ bit


def _tree(parent: Sequence[int]) -> BinaryTree:
    children: list[list[int]] = [[] for _ in parent]
    for rank, up in enumerate(parent):
        if up >= 0:
            children[up].append(rank)
    return BinaryTree(parent.index(-1), tuple(parent), tuple(map(tuple, children)))
