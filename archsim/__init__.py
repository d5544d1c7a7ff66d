"""archsim: describe a machine, pick a workload, get cycles, energy and area that can be traced.

>>> import archsim
>>> result = archsim.run("configs/runs/llama_3_8b_on_tpu_v4i.yaml")     # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "load", "run", "sweep"]

if TYPE_CHECKING:
    from archsim.run import load, run
    from archsim.sweep import sweep


def __getattr__(name: str) -> Any:
    # Lazy, so that `archsim --help` pays for none of it.
    if name in ("run", "load"):
        import archsim.run as module
    elif name == "sweep":
        import archsim.sweep as module  # type: ignore[no-redef]
    else:
        raise AttributeError(f"module 'archsim' has no attribute {name!r}")
    return getattr(module, name)
