"""A queue before servers that take equally long for each event, compiled."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from archsim.compiled.kernel import kernel

Ints = npt.NDArray[np.int64]


@kernel
def _serve(arrivals: Ints, service: int, servers: int, most: int, departures: Ints, starts: Ints) -> int:
    """Departures in order of arrival, -1 for what is lost; ``starts`` holds those of what was served. The most that
    waited."""
    served = 0
    waiting_from = 0  # the first of those served that has not begun by now
    deepest = 0
    for i in range(arrivals.size):
        now = arrivals[i]
        while waiting_from < served and starts[waiting_from] <= now:
            waiting_from += 1
        start = now
        if servers > 0 and served >= servers:
            start = max(now, starts[served - servers] + service)
        if start > now and most >= 0 and served - waiting_from >= most:
            departures[i] = -1
            continue
        starts[served] = start
        served += 1
        if start > now and served - waiting_from > deepest:
            deepest = served - waiting_from
        departures[i] = start + service
    return deepest


def serve(arrivals: Ints, service: int, servers: int | None = 1, most: int | None = None) -> tuple[Ints, int]:
    """Serve events first come, first served.

    Parameters
    ----------
    arrivals: in order, ps. service: ps for each. servers: events in service at a time; None for any number.
    most: events that may wait; one that comes when so many do is lost; None for any number.

    Returns
    -------
    When each leaves, -1 for what is lost; and how many waited at most.
    """
    departures, starts = np.empty_like(arrivals), np.empty_like(arrivals)
    deepest = _serve(arrivals, service, servers or 0, -1 if most is None else most, departures, starts)
    return departures, int(deepest)
