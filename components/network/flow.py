"""Flows that share links fairly: the fluid picture of a network, for systems too large for messages.

Every flow gets the max-min fair rate: the flows of the link that has least for each of its flows are fixed first, then
those of the next, and so on (Bertsekas and Gallager, Data Networks, 6.5.2). When a flow ends the others speed up.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from archsim.components.network.graph import Graph, Ways

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_SAME = 1e-9


class Flows:
    """Flows over the edges of a graph.

    Parameters
    ----------
    paths: edges of each flow; a flow without edges needs no time.
    """

    def __init__(self, graph: Graph, paths: Sequence[Sequence[int]]) -> None:
        self.graph = graph
        self.count = len(paths)
        self.capacity = np.array([edge.bytes_per_s for edge in graph.edges])
        self._edge = np.array([edge for path in paths for edge in path], dtype=np.int64)
        self._flow = np.repeat(np.arange(self.count), [len(path) for path in paths])
        self._moves = np.bincount(self._flow, minlength=self.count) > 0
        latency = np.array([edge.link.latency * 1e-12 for edge in graph.edges])
        self.latency_s = np.bincount(self._flow, latency[self._edge], self.count) if self._edge.size else self._none()

    def _none(self) -> Floats:
        return np.zeros(self.count)

    def rates(self, active: npt.NDArray[np.bool_] | None = None) -> Floats:
        """Bytes per second of each active flow; infinite for one without edges, 0 for one that is not active."""
        open_ = np.ones(self.count, dtype=bool) if active is None else active.copy()
        rates = np.where(open_, np.inf, 0.0)
        left = self.capacity.copy()
        edges = len(left)
        open_ &= self._moves
        while open_.any():
            using = open_[self._flow]
            users = np.bincount(self._edge[using], minlength=edges)
            share = np.where(users > 0, left / np.maximum(users, 1), np.inf)
            least = share.min()
            tight = share <= least * (1 + _SAME)
            fixed = np.zeros(self.count, dtype=bool)
            fixed[self._flow[using & tight[self._edge]]] = True
            rates[fixed] = least
            leaving = using & fixed[self._flow]
            left = np.maximum(left - least * np.bincount(self._edge[leaving], minlength=edges), 0.0)
            open_ &= ~fixed
        return rates

    def finish_s(self, n_bytes: npt.ArrayLike) -> Floats:
        """Seconds at which each of ``n_bytes`` has arrived, all flows starting together."""
        left = np.broadcast_to(np.asarray(n_bytes, dtype=np.float64), (self.count,)).copy()
        total = left.copy()
        ended, now = self._none(), 0.0
        active = (left > 0) & self._moves
        while active.any():
            rates = self.rates(active)
            times = np.full(self.count, np.inf)
            times[active] = left[active] / rates[active]
            step = times.min()
            now += step
            left[active] -= rates[active] * step
            over = active & ((left <= _SAME * total) | (times <= step * (1 + _SAME)))
            ended[over] = now
            active &= ~over
        return np.where(total > 0, ended + self.latency_s, 0.0)

    def utilisation(self, n_bytes: npt.ArrayLike) -> Floats:
        """Share of the time until the last flow ends for which each edge is busy."""
        sizes = np.broadcast_to(np.asarray(n_bytes, dtype=np.float64), (self.count,))
        last = float(self.finish_s(sizes).max(initial=0.0))
        if not last or not self._edge.size:
            return np.zeros(len(self.capacity))
        carried = np.bincount(self._edge, sizes[self._flow], len(self.capacity))
        busy: Floats = carried / self.capacity / last
        return busy


def all_to_all(ways: Ways) -> Flows:
    """A flow from every rank to every other."""
    ranks = range(ways.graph.ranks)
    return Flows(ways.graph, [ways.path(a, b) for a in ranks for b in ranks if a != b])
