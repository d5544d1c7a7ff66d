"""A systolic array one cycle and one PE at a time: slow, obvious, and it multiplies."""

from __future__ import annotations

import numpy as np


class Hazard(Exception):
    """Two values met where the hardware has room for one, or operands of two folds met in a PE."""


def os_folds(M: int, K: int, N: int, R: int, C: int) -> list[tuple[slice, slice]]:
    return [(slice(i, min(i + R, M)), slice(j, min(j + C, N))) for j in range(0, N, C) for i in range(0, M, R)]


def run_os(
    A: np.ndarray, B: np.ndarray, R: int, C: int, pipelined: bool = True, early: int = 0
) -> tuple[int, np.ndarray]:
    """Cycles and product of an output-stationary array; ``early`` starts each next fold that much too soon."""
    M, K = A.shape
    N = B.shape[1]
    folds = os_folds(M, K, N, R, C)
    starts, start = [], 0
    for rows, cols in folds:
        starts.append(start)
        r, c = rows.stop - rows.start, cols.stop - cols.start
        start += (max(K, r) if pipelined else r + c + K - 2) - early
    out = np.zeros((M, N), dtype=np.int64)
    a = np.full((R, C), None, dtype=object)  # (fold, k, value) moving right
    b = np.full((R, C), None, dtype=object)  # (fold, k, value) moving down
    acc = np.zeros((R, C), dtype=np.int64)
    done, cycle = 0, 0
    while done < M * N:
        a[:, 1:], b[1:, :] = a[:, :-1].copy(), b[:-1, :].copy()
        a[:, 0], b[0, :] = None, None
        for f, (rows, cols) in enumerate(folds):
            for i in range(rows.stop - rows.start):
                k = cycle - starts[f] - i
                if 0 <= k < K:
                    if a[i, 0] is not None:
                        raise Hazard("two values enter a row")
                    a[i, 0] = (f, k, A[rows.start + i, k])
            for j in range(cols.stop - cols.start):
                k = cycle - starts[f] - j
                if 0 <= k < K:
                    if b[0, j] is not None:
                        raise Hazard("two values enter a column")
                    b[0, j] = (f, k, B[k, cols.start + j])
        bus = set()
        for i in range(R):
            for j in range(C):
                if a[i, j] is None or b[i, j] is None:
                    continue  # an idle PE: a row or column of a partial fold
                (f, k, x), (g, kk, y) = a[i, j], b[i, j]
                if (f, k) != (g, kk):
                    raise Hazard("operands of two folds meet")
                acc[i, j] = (acc[i, j] if k else 0) + x * y
                if k == K - 1:
                    if j in bus:
                        raise Hazard("two results on a column bus")
                    bus.add(j)
                    rows, cols = folds[f]
                    out[rows.start + i, cols.start + j] = acc[i, j]
                    done += 1
        cycle += 1
    return cycle, out


def run_ws(
    A: np.ndarray, B: np.ndarray, R: int, C: int, pipelined: bool = True, chunk: int | None = None, early: int = 0
) -> tuple[int, np.ndarray]:
    """Cycles and product of a weight-stationary array: B is held, A streams, sums fall to the bottom edge."""
    M, K = A.shape
    N = B.shape[1]
    chunk = chunk or M
    folds = [
        (slice(t, min(t + chunk, M)), slice(j, min(j + C, N)), slice(i, min(i + R, K)))
        for t in range(0, M, chunk)
        for j in range(0, N, C)
        for i in range(0, K, R)
    ]
    size = [tuple(s.stop - s.start for s in fold) for fold in folds]  # (T, c, r)
    loads, starts = [0], [size[0][2]]
    for f in range(1, len(folds)):
        T, c, r = size[f - 1]
        if pipelined:
            loads.append(starts[-1])  # the shadow registers are free row by row
            starts.append(starts[-1] + max(T, size[f][2]) - early)
        else:
            loads.append(starts[-1] + R + c + T - 2)
            starts.append(loads[-1] + size[f][2] - early)
    out = np.zeros((M, N), dtype=np.int64)
    active = np.zeros((R, C), dtype=np.int64)
    shadow = np.zeros((R, C), dtype=np.int64)
    owner = np.full((R, C), -1)  # fold whose weight a shadow register holds, settled
    a = np.full((R, C), None, dtype=object)
    p = np.full((R, C), None, dtype=object)
    last, results, cycle = 0, 0, 0
    expected = sum(T * c for T, c, _ in size)
    while results < expected:
        # Streamed values and sums move, and a PE whose first value of a fold arrives takes its shadow weight.
        bottom = p[R - 1].copy()
        a[:, 1:], p[1:, :] = a[:, :-1].copy(), p[:-1, :].copy()
        a[:, 0], p[0, :] = None, None
        for j in range(C):
            if bottom[j] is not None:
                raise Hazard("a sum was not taken at the bottom edge")
        for f, (rows, _, ks) in enumerate(folds):
            T, c, r = size[f]
            for i in range(R):
                t = cycle - starts[f] - i
                if 0 <= t < T:
                    if a[i, 0] is not None:
                        raise Hazard("two values enter a row")
                    a[i, 0] = (f, t, A[rows.start + t, ks.start + i] if i < r else 0)
            for j in range(c):
                t = cycle - starts[f] - j
                if 0 <= t < T:
                    p[0, j] = (f, t, 0)
        for i in range(R):
            for j in range(C):
                if p[i, j] is None:
                    continue
                (f, t, x), (g, tt, s) = a[i, j], p[i, j]
                if (f, t) != (g, tt):
                    raise Hazard("a value and a sum of two folds meet")
                if t == 0:
                    if i < size[f][2] and owner[i, j] != f:
                        raise Hazard("the weight is not there yet")
                    active[i, j] = shadow[i, j] if i < size[f][2] else 0
                p[i, j] = (f, t, s + x * active[i, j])
                if i == R - 1:
                    rows, cols, _ = folds[f]
                    out[rows.start + t, cols.start + j] += p[i, j][2]
                    p[i, j] = None
                    results += 1
                    last = cycle
        # Weights of the next fold shift down a row a cycle, column j starting j cycles later; row i shifts
        # from the moment the first weight passes it.
        for f, (_, cols, ks) in enumerate(folds):
            _, c, r = size[f]
            for j in range(c):
                step = cycle - loads[f] - j
                if 0 <= step < r:
                    for i in range(min(step, r - 1), -1, -1):
                        shadow[i, j] = shadow[i - 1, j] if i else B[ks.start + r - 1 - step, cols.start + j]
                        owner[i, j] = f if step == r - 1 else -1
        cycle += 1
    return last + 1, out
