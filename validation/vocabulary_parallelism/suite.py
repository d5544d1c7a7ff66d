"""Embedding and head shared by all stages of a pipeline, or on their own: a GPT of 4 billion on eight A100.

Measured by the authors of arXiv 2411.05288 (artifact of sail-sg/VocabularyParallelism): 1F1B, FP16, flash attention,
128 micro-batches of a sequence, vocabularies of 32,000 to 256,000. Nothing is calibrated here; MFU is by their formula,
which counts all pairs of attention, memory is what the allocator reserved. Not predicted: their interlaced pipeline;
layers moved away from the head where the artifact does not say how many (it does for one row); their 32 GPUs, whose
model's sizes are not in the repository and whose values are read off a plot.
"""

from __future__ import annotations

from dataclasses import replace

from archsim.training.cases import setup_of
from archsim.training.step import step
from archsim.validation.framework import Claim, Row, cases, row

_SOURCE = "sail-sg/VocabularyParallelism@6191c3b artifact/example-results/full-exp.txt (arXiv 2411.05288)"
_TIME = (
    "four layers take 31.9 ms of a micro-batch there (2,048 tokens; artifact/exp_one_host.csv), here 28.8; where the "
    "vocabulary is shared 33.5 ms there, beside sums over stages that here are free, and a stage's share of 32,000 "
    "words 2.6 ms in four passes, here 1.5"
)
_ROOM = (
    "what the allocator reserves beside tensors: a third more on the row whose last stage has 256,000 words, and its "
    "MFU falls as well, below that of sequences twice as long"
)
_BARRIERS = {"vocab-1": "2", "vocab-2": "1"}
_LAYERS, _HIDDEN, _BATCH, _STAGES = 32, 3072, 128, 8


def rows() -> list[Row]:
    """MFU and memory of each."""
    made: list[Row] = []
    for case in cases("vocabulary_parallelism", "measured.csv"):
        seq, vocab, method = int(case["seq"]), int(case["vocab"]), case["method"]
        asked = {
            "system": "dgx_a100",
            "framework": "megatron_core",
            "gpus": str(_STAGES),
            "pp": str(_STAGES),
            "global_batch": str(_BATCH),
            "micro_batch": "1",
            "hidden": str(_HIDDEN),
            "layers": str(_LAYERS),
            "heads": "24",
            "seq": str(seq),
            "vocab": str(vocab),
            "stages": case["stages"],
            "vocab_parallel": _BARRIERS.get(method, "0"),
        }
        setup = setup_of(asked)
        found = step(replace(setup, model=setup.model.model_copy(update={"tied_embeddings": False})))
        mfu = 100 * _flops(seq, vocab) / _STAGES / found.seconds / setup.timer.peak_flops("fp16")
        name = f"{method}, {seq} tokens, {vocab // 1000}k words"
        measured, room = float(case["mfu_pct"]), float(case["peak_memory_gib"])
        made.append(_made(name, "MFU", "%", measured, 4 / measured, _TIME, mfu))  # within four points
        made.append(_made(name, "memory of the fullest stage", "GiB", room, 0.1, _ROOM, found.held.total / 2**30))
    return made


def _made(case: str, metric: str, unit: str, published: float, tolerance: float, cause: str, simulated: float) -> Row:
    claim = Claim(
        case=case,
        metric=metric,
        unit=unit,
        published=published,
        tolerance=tolerance,
        role="validation",
        source=_SOURCE,
        cause=cause,
    )
    return row("vocabulary_parallelism", claim, simulated)


def _flops(seq: int, vocab: int) -> float:
    """Of a step, as artifact/quick_exp.sh counts them."""
    layer = 24 * seq * _HIDDEN**2 + 4 * seq**2 * _HIDDEN
    return 3.0 * _BATCH * (_LAYERS * layer + 2 * seq * _HIDDEN * vocab)
