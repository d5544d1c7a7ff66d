"""Who sends to whom: permutations of the nodes, uniform traffic, hot spots."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from archsim.components.network.router_level.random_numbers import ints, next_int
from archsim.errors import InputError, nearest, shortened

Ints = npt.NDArray[np.int64]

_PERMUTATIONS = ("bitcomp", "bitrev", "neighbor", "shuffle", "tornado", "transpose")
PATTERNS = (*_PERMUTATIONS, "hotspot", "randperm", "uniform")


@dataclass(frozen=True)
class Traffic:
    """A pattern over nodes.

    Attributes
    ----------
    fixed: node i sends to ``targets[i]``; otherwise a packet goes to one of ``targets``, each as likely.
    """

    fixed: bool
    targets: Ints


def traffic(pattern: str, nodes: int, radix: int, dimensions: int) -> Traffic:
    """The pattern of a name: ``transpose``, ``uniform``, ``hotspot({{0,9,54},{2,1,1}})`` with rates, ...

    Outer braces hold parameters, as in BookSim: the list of hot spots and the list of their rates. Its
    ``hotspot({0,9,54})`` therefore has one hot spot, node 0, at rate 9.

    Parameters
    ----------
    radix, dimensions: digits of a node's number, for neighbor and tornado.

    Raises
    ------
    InputError: no such pattern, or none over so many nodes.
    """
    name, _, rest = pattern.partition("(")
    if name not in PATTERNS:
        raise InputError(f"no traffic is called '{shortened(name)}': {nearest(name, PATTERNS)}")
    if name == "uniform":
        return Traffic(False, np.arange(nodes, dtype=np.int64))
    if name == "hotspot":
        return _hot_spots(pattern, rest, nodes)
    if name == "randperm":
        seed = rest.removesuffix(")") or "0"
        if not seed.isdecimal() or len(seed) > 9:
            raise InputError(f"'{shortened(pattern)}' is not written like randperm or randperm(3), with a seed")
        return Traffic(True, _shuffled(nodes, int(seed)))
    bits = nodes.bit_length() - 1
    if name in ("bitcomp", "bitrev", "shuffle", "transpose") and nodes != 1 << bits:
        raise InputError(f"{name} traffic needs a power of two of nodes, not {nodes}")
    if name == "transpose" and bits % 2:
        raise InputError(f"transpose traffic needs an even power of two of nodes, not {nodes}")
    if name in ("neighbor", "tornado") and radix**dimensions != nodes:
        raise InputError(f"{name} traffic needs nodes in equal dimensions: {nodes} are not {radix}^{dimensions}")
    targets = []
    for node in range(nodes):
        if name == "bitcomp":
            target = nodes - 1 - node
        elif name == "bitrev":
            target = int(f"{node:0{bits}b}"[::-1], 2) if bits else 0
        elif name == "shuffle":
            target = (node << 1 | node >> bits - 1) & nodes - 1
        elif name == "transpose":
            target = (node << bits // 2 | node >> bits // 2) & nodes - 1
        else:
            step = 1 if name == "neighbor" else (radix + 1) // 2 - 1
            digits = [node // radix**d % radix for d in range(dimensions)]
            target = sum((digit + step) % radix * radix**d for d, digit in enumerate(digits))
        targets.append(target)
    return Traffic(True, np.array(targets, dtype=np.int64))


def _shuffled(nodes: int, seed: int) -> Ints:
    """A permutation, drawn as BookSim draws it: node i becomes the target of one of those without."""
    draws, targets = ints(seed), np.full(nodes, -1, dtype=np.int64)
    for node in range(nodes):
        free = np.flatnonzero(targets < 0)
        targets[free[next_int(draws, free.size)]] = node
    return targets


def _hot_spots(pattern: str, rest: str, nodes: int) -> Traffic:
    if len(rest) > 10_000 or re.search(r"\d{10}", rest):
        raise InputError(f"'{shortened(pattern)}' is too long for a list of hot spots")
    if not re.fullmatch(r"(\d+|\{\s*(\d+|\{[\d, ]+\})(\s*,\s*(\d+|\{[\d, ]+\}))*\s*\})\)", rest):
        raise InputError(
            f"'{shortened(pattern)}' does not name hot spots like hotspot(9) or hotspot({{{{0,9}},{{2,1}}}})"
        )
    inside = rest[1:-2] if rest.startswith("{") else rest[:-1]
    parameters = [[int(n) for n in re.findall(r"\d+", part)] for part in re.findall(r"\{[^}]*\}|\d+", inside)]
    spots = parameters[0]
    rates = (parameters[1] if len(parameters) > 1 else [1])[: len(spots)]
    rates += rates[-1:] * (len(spots) - len(rates))
    if max(spots) >= nodes or min(rates) < 1:
        raise InputError(f"'{shortened(pattern)}': a hot spot is one of {nodes} nodes and has a rate of at least 1")
    if len(spots) == 1:
        return Traffic(True, np.full(nodes, spots[0], dtype=np.int64))
    return Traffic(False, np.repeat(np.array(spots, dtype=np.int64), rates))
