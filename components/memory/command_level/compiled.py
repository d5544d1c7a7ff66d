"""How the kernels of this package are compiled."""

from __future__ import annotations

import numba

kernel = numba.njit(cache=True, error_model="numpy", _nrt=False)
"""Compiles a function that allocates nothing: without reference counts, that cost more than the work between them."""
