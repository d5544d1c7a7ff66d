"""Checkpoints beside training against what their abstracts print.

DataStates-LLM (arXiv 2406.10707): models of 7 to 70 billion parameters on nodes of four A100, tensors cut within a
node, stages over nodes, a checkpoint after every step. Batches are not in the abstract: 16 sequences of 2,048 tokens
(assumed).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from archsim.errors import InputError
from archsim.training.cases import answers

_MODELS = (("llama-2-7b", 8, 2), ("llama-2-13b", 16, 4), ("llama-2-70b", 80, 20))
CAUSE = (
    "rates of serialising and of nodes writing are assumed (configs/checkpoints), and so is the batch; which model, "
    "how often, and against which of three ways of saving the largest gain was measured is not in the abstract"
)


def lazy_gains() -> Iterator[float]:
    """How much sooner steps with a checkpoint after each end where it is lazy than where training stops for it."""
    for model, gpus, stages in _MODELS:
        case: dict[str, Any] = {
            "model": model,
            "device": "a100_sxm4_40g",
            "framework": "megatron_deepspeed",
            "gpus": gpus,
            "tp": 4,
            "pp": stages,
            "global_batch": 16,
            "micro_batch": 1,
            "zero": 1,
            "seq": 2048,
            "precision": "bf16",
            "steps": 50,
            "every": 1,
        }
        stopped, beside = answers([case | {"checkpoint": how} for how in ("synchronous", "lazy")])
        for one in (stopped, beside):
            if isinstance(one, InputError):
                raise one
        yield stopped["run_h"] / beside["run_h"]  # type: ignore[index]  # neither is an error
