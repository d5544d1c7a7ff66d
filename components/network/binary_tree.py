"""Double binary trees: two in-order trees over the same ranks, in which no rank but two does the inner work of both.

Sanders, Speck, Träff 2009; NCCL's and ASTRA-sim's large all-reduces go over them. In an in-order tree over 0, 1, ...
the odd ranks are leaves or the even ones are, so a rank that forwards in one tree is a leaf of the other. The trees are
NCCL's (src/graph/trees.cc): rank 0 above a tree of the others by the lowest bit that is set, and the same mirrored over
an even number of ranks, or moved on by one rank over an odd one.
"""

from __future__ import annotations

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
    """The two trees over any number of ranks, as NCCL builds them (github NVIDIA/nccl, src/graph/trees.cc).

    The second one is rooted at rank 0. The first one is its mirror image, rooted at the last rank; of an odd number of
    ranks the same shifted by one, rooted at rank 1.
    """
    if ranks < 2:
        raise InputError(f"a double binary tree needs two ranks, not {ranks}")
    above = [_above(rank, ranks) for rank in range(ranks)]
    other = [-1] * ranks
    for rank, parent in enumerate(above):
        if ranks % 2:
            other[(rank + 1) % ranks] = parent if parent < 0 else (parent + 1) % ranks
        else:
            other[ranks - 1 - rank] = parent if parent < 0 else ranks - 1 - parent
    return _tree(other), _tree(above)


def _above(rank: int, ranks: int) -> int:
    """The parent of a rank in the in-order tree below rank 0, -1 for rank 0: by the lowest bit that is set."""
    if rank == 0:
        return -1
    bit = rank & -rank
    parent = (rank ^ bit) | bit << 1
    return parent if parent < ranks else rank ^ bit


def _tree(parent: list[int]) -> BinaryTree:
    children: list[list[int]] = [[] for _ in parent]
    for rank, above in enumerate(parent):
        if above >= 0:
            children[above].append(rank)
    return BinaryTree(parent.index(-1), tuple(parent), tuple(tuple(mine) for mine in children))
