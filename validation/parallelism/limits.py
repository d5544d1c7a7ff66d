"""What memory and bandwidth alone decide: ZeRO-Infinity's needs, how far sequence parallelism goes, what ZO2 holds.

Of papers that say no more than their headline nothing is predicted: FSMoE (its grid of 1,458 layers is not
transcribed, of its lines of communication half are), CO2 (no figure), Frontier (its 22, 175 and 1,000 billion without
their cuts); nor ZeRO-Infinity's bandwidth of activations, a span without what its ends are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from archsim.config import load_spec
from archsim.training.cases import setup_of
from archsim.training.held import held
from archsim.training.pipeline import in_flight
from archsim.training.setup import dealt
from archsim.validation.framework import Claim, Row, row
from archsim.workloads.model import ModelSpec
from archsim.workloads.step.cut import Cut
from archsim.workloads.step.ends import layer_parameters
from archsim.workloads.step.framework import FrameworkSpec
from archsim.workloads.step.kinds import Kind
from archsim.workloads.step.layer import Layers
from archsim.workloads.step.work import flops

_LAYER = Kind("attention", "dense")
_INFINITY = "Rajbhandari et al. (arXiv 2104.07857), section 4.2"
_SEQUENCE = "Li et al. (arXiv 2105.13120), abstract: BERT on 64 P100"
_NEEDS = "the paper rounds up what it reads off a curve, and counts products alone"
_ROOM = "sequence and batch of the comparison, format, optimizer and what else fills 16 GB are not in the abstract"
_V100_FLOPS = 70e12
"""a second, which the paper takes as what a V100 can reach"""


def limits() -> list[Row]:
    """All claims."""
    return [*_bandwidths(), *_sequence_parallelism(), *_blocks()]


def _made(case: str, metric: str, unit: str, published: float, source: str, cause: str, simulated: float) -> Row:
    claim = Claim(
        case=case,
        metric=metric,
        unit=unit,
        published=published,
        tolerance=0.25,
        role="validation",
        source=source,
        confidence="medium",
        cause=cause,
    )
    return row("parallelism", claim, simulated)


def _bandwidths() -> Iterator[Row]:
    """To compute for as long as is moved (half of the peak), or for nine times as long; sequences of 1,024 tokens.

    A layer is computed forward, again and backward. Its parameters come for each of these and their gradients leave;
    its optimizer's state comes and goes.
    """
    framework = load_spec("megatron_lm", FrameworkSpec, category="frameworks")
    model = load_spec("gpt3-175b", ModelSpec, category="models")
    for case, sequences, moved, share, published in (
        ("parameters and gradients, half of the peak", 1, 4 * 2, 0.5, 70e9),
        ("optimizer's state, 90% of the peak", 2, 2 * (12 + 2 + 2), 0.9, 1.5e12),
    ):
        layers = Layers(model, framework, Cut(sequences, sequences), 1024, "fp16")
        work = sum(
            flops(k.work) for k in (*layers.forward(_LAYER), *layers.backward(_LAYER), *layers.again("full", _LAYER))
        )
        per_byte = work / (moved * layer_parameters(layers, _LAYER)[0])
        needed = share / (1 - share) * _V100_FLOPS / per_byte
        yield _made(f"ZeRO-Infinity: {case}", "bandwidth", "B/s", published, _INFINITY, _NEEDS, needed)


def _sequence_parallelism() -> Iterator[Row]:
    """BERT's base model: its 12 heads on as many tensor-parallel ranks, and its tokens on 64 ranks."""
    batches = _most(lambda n: _bert(512, n, 12, 1)), _most(lambda n: _bert(512, n, 1, 64))
    lengths = _most(lambda n: _bert(192 * n, 64, 12, 1)), _most(lambda n: _bert(192 * n, 64, 1, 64))
    for metric, published, (tensor, sequence) in (
        ("largest batch, beside tensor parallelism's", 13.7, batches),
        ("longest sequence, beside tensor parallelism's", 3.0, lengths),
    ):
        yield _made("sequence parallelism", metric, "ratio", published, _SEQUENCE, _ROOM, sequence / tensor)


def _most(needed: Callable[[int], int]) -> int:
    """The largest size that 16 GB hold."""
    low, high = 1, 2**16
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if needed(middle) <= 16e9 else (low, middle - 1)
    return low


def _bert(seq: int, batch: int, tensor: int, context: int) -> int:
    """Bytes of a rank."""
    asked = {"model": "bert-base", "framework": "megatron_lm", "recompute": "none", "seq": str(seq)}
    setup = setup_of(asked | {"global_batch": str(batch), "micro_batch": str(batch)})
    setup = replace(setup, cut=Cut(batch, batch, tensor=tensor, context=context))
    return held(setup, dealt(setup.model, setup.cut)[0], in_flight("1f1b", 1, 1, 1)[0]).total


_OPT = {
    "2.7B": (2560, 4.14),
    "6.7B": (4096, 4.99),
    "13B": (5120, 6.18),
    "30B": (7168, 8.86),
    "66B": (9216, 12.07),
    "175B": (12288, 18.04),
}
"""width, GB"""
_ZO2 = "liangyuwang/zo2@097d568 README.md; test/mezo_sgd/hf_opt/utils.py: FP16, a sequence of 2,048, tables apart"
_CACHED = "memory is all that the driver lent, the allocator's cache in it, and in GB of which size is not said"


def _blocks() -> Iterator[Row]:
    """Zeroth-order steps that keep a model on the host: what is held more than of OPT-1.3B (2,048 wide, 3.75 GB).

    Both tables stay, three layers are on their way in, computed and out, and the widest tensors of a layer are there;
    what no width changes (contexts, logits) is left out by the difference.
    """
    for name, (hidden, published) in _OPT.items():
        more = (_offloaded(hidden) - _offloaded(2048)) / 1e9
        yield _made(f"ZO2: OPT-{name}, more than OPT-1.3B", "memory", "GB", published - 3.75, _ZO2, _CACHED, more)


def _offloaded(hidden: int) -> int:
    """Bytes that go with the width."""
    sizes = {"hidden": str(hidden), "layers": "24", "heads": "32", "vocab": "50272", "seq": "2048"}
    setup = setup_of(sizes | {"framework": "megatron_lm", "global_batch": "1", "micro_batch": "1"})
    tables = 2 * setup.model.vocab * hidden + setup.model.max_positions * hidden
    widest = 2 * setup.layers.tokens * setup.model.intermediate
    return 2 * (tables + 3 * layer_parameters(setup.layers, _LAYER)[0] + widest)
