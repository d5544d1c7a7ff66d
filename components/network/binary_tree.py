"""Double binary trees: two in-order trees over the same ranks, in which no rank but two does the inner work of both.

Sanders, Speck, Träff 2009; NCCL's and ASTRA-sim's large all-reduces go over them. In an in-order tree over 0, 1, ...
the odd ranks are leaves or the even ones are, so a rank that forwards in one tree is a leaf of the other.
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
    """The two trees over a power of two of ranks: one rooted at the last rank, one at the first.

    Below the root hangs a full in-order tree of all the others.
    """
    if ranks < 2 or ranks & (ranks - 1):
        raise InputError(f"a double binary tree needs a power of two of ranks, not {ranks}")
    return _tree(ranks, ranks - 1, 0), _tree(ranks, 0, 1)


def _tree(ranks: int, root: int, first: int) -> BinaryTree:
    parent = [-1] * ranks
    children: list[tuple[int, ...]] = [()] * ranks

    def below(above: int, low: int, count: int) -> int:
        """The root of the full tree of ``count`` ranks from ``low``, hung below ``above``."""
        here, half = low + count // 2, count // 2
        parent[here] = above
        if half:
            children[here] = below(here, low, half), below(here, here + 1, half)
        return here

    children[root] = (below(root, first, ranks - 1),)
    return BinaryTree(root, tuple(parent), tuple(children))
