"""archsim: describe a machine, pick a workload, get cycles, energy and area that can be traced.

>>> import archsim
>>> result = archsim.run("llama_3_8b_on_tpu_v4i", {"workload.output": 4})
>>> print(f"{result.time_s:.3f} s, bound by {result.bound_by}")
0.286 s, bound by chip.mxu
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from archsim.version import __version__

__all__ = ["__version__", "load", "run", "show", "sweep"]

if TYPE_CHECKING:
    from archsim.report.notebook import show
    from archsim.runs import load, run
    from archsim.sweeps import sweep


def __getattr__(name: str) -> Any:
    # Lazy, so that `archsim --help` pays for none of it.
    if name in ("run", "load"):
        from archsim import runs

        return getattr(runs, name)
    if name == "show":
        from archsim.report import notebook

        return notebook.show
    if name == "sweep":
        from archsim import sweeps

        return sweeps.sweep
    raise AttributeError(f"module 'archsim' has no attribute {name!r}")
