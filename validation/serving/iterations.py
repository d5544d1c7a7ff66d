"""Iterations of engines: prompts whole or in chunks, and answers that ride along with chunks.

Kernels alone, without a host: both sides of a quotient ran in one framework, and a prompt's kernels outlast its
launches. Nothing was set by these rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from archsim.runs import run
from archsim.serving.deploy import Deployment, Placed, placed
from archsim.validation.cpu_gpu_coupled.suite import DECODE_OF_FOUR
from archsim.validation.framework import Claim, Row, cases, row
from archsim.workloads.engine_spec import EngineSpec
from archsim.workloads.shape import Shape, whole_blocks

_SARATHI = "SARATHI (arXiv 2308.16369)"
_SARATHI_SERVE = "Sarathi-Serve (arXiv 2403.02310)"
_SOURCES = {
    "tiles": f"{_SARATHI}, figure 7",
    "prompts": f"{_SARATHI_SERVE}, prefill.csv of figure 2",
    "chunks": f"{_SARATHI_SERVE}, chunking-overhead.csv of figure 9",
}
_AIM = 0.10
_CAUSES = {
    "tiles": "256 tokens are 2% too long, one tile less and one more 10% too short: products of this chip are not "
    "among the measured ones, and norms and rotations of their framework are kernels of their own",
    "prompts": "the framework's launches, one by one, outlast the kernels of so short a prompt",
    "chunks": "1,024 tokens take them longer than twice 512 (so they do alone: 217 ms in table 2): a tile that their "
    "library chose; attention to earlier keys takes 1.6 times as long as here; 16,384 at once take longer than in "
    "chunks",
}
_SPLIT_CAUSE = (
    "riding decodes cost 20% to 57% more than here, the most where two of them ride: as kernels do that give a block "
    "to each head of a sequence and do not split its keys, which leave an A100 unfilled"
)
_STEP_CAUSE = "their framework launches kernels one by one: a step of decoding is longer than its kernels"


def iterations() -> list[Row]:
    """Times of prompts, what riding along gains, and kernels of a step of decoding."""
    return [*_prompts(), *_riding(), *_kinds()]


@lru_cache(maxsize=8)
def _kernels(model: str, system: str, tensor: int = 1) -> Placed:
    return placed(Deployment(model, system, EngineSpec(name="kernels"), tensor=tensor))


def _chunked(prompt: int, chunk: int, decodes: int = 0, keys: int = 0) -> list[Shape]:
    """Iterations of a prompt in chunks, beside so many decodes over so many keys each."""
    begins = range(0, prompt, chunk)
    parts = [(min(chunk, prompt - begin), whole_blocks(min(begin + chunk, prompt))) for begin in begins]
    return [Shape(decodes=decodes, keys=keys if decodes else 0, prompts=((1, new, seen),)) for new, seen in parts]


def _seconds(at: Placed, shapes: list[Shape]) -> float:
    return sum(at.timed(shape)[0] for shape in shapes)


def _prompts() -> list[Row]:
    found = []
    for case in cases("serving", "chunks.csv"):
        prompt, chunk = int(case["prompt"]), int(case["chunk"])
        at = _kernels(case["model"], case["system"], int(case["tp_size"]))
        cut = f"in chunks of {chunk:,}" if chunk < prompt else "whole"
        claim = Claim(
            case=f"{case['model']} on {case['tp_size']} {case['system']}, prompt of {prompt:,} {cut}",
            metric=f"time ({case['source']})",
            unit="ms",
            published=float(case["time_ms"]),
            tolerance=_AIM,
            role="validation",
            source=_SOURCES[case["source"]],
            cause=_CAUSES[case["source"]],
        )
        found.append(row("serving", claim, _seconds(at, _chunked(prompt, chunk)) * 1e3))
    return found


def _riding() -> list[Row]:
    found = []
    for case in cases("serving", "riding.csv"):
        for metric, simulated in _gains(case).items():
            if not case[metric]:
                continue
            claim = Claim(
                case=f"{case['model']} on {case['system']}, {case['batch']} of {case['sequence']} tokens, chunks of "
                f"{case['chunk']}",
                metric=metric.replace("_", " "),
                unit="x",
                published=float(case[metric]),
                tolerance=_AIM,
                role="validation",
                source=f"{_SARATHI}, {'table 4' if case['decode_speedup'] else 'figure 9a'}",
                cause=_SPLIT_CAUSE if metric == "decode_speedup" else _STEP_CAUSE,
            )
            found.append(row("serving", claim, simulated))
    return found


def _gains(case: Mapping[str, str]) -> dict[str, float]:
    """What riding gains: of a decode's time, and of requests a second.

    A chunk and the decodes beside it are ``chunk`` tokens together. Prompts have so many tokens to one of the answer
    that all decodes find a place, and a chunk's rest is filled by the next prompt. Without riding all prompts of a
    batch are computed at once, and then all answers.
    """
    sequence, batch = int(case["sequence"]), int(case["batch"])
    answer = round(sequence / (1 + int(case["prompt_per_decode"])))
    prompt, riders = sequence - answer, batch - 1
    new, keys = int(case["chunk"]) - riders, whole_blocks(sequence)
    at = _kernels(case["model"], case["system"])
    chunks = -(-prompt // new)
    alone, riding = (_seconds(at, _chunked(chunks * new, new, n, keys)) / chunks for n in (0, riders))
    step = _seconds(at, [Shape(decodes=batch, keys=keys)])
    prompts = _seconds(at, [Shape(prompts=((batch, prompt, whole_blocks(prompt)),), finished=batch)])
    return {
        "decode_speedup": step / batch / ((riding - alone) / riders),
        "throughput_gain": (prompts + answer * step) / (batch * prompt / new * riding),
    }


def _kinds() -> list[Row]:
    """Kernels of a step that decodes four sequences, by kind."""
    result = run({"name": "decode", "system": "a100_pcie_x2", "workload": DECODE_OF_FOUR})
    time_s = {r["kind"]: r["time_s"] for r in result.kind_rows()}
    found = []
    for kind, name, published_ms in (("matmul", "linear", 25.5), ("attention", "attention", 2.995)):
        claim = Claim(
            case="yi-34b on 2 a100_pcie, 4 decodes",
            metric=f"{name} kernels",
            unit="ms",
            published=published_ms,
            tolerance=_AIM,
            role="validation",
            source=f"{_SARATHI_SERVE}, table 2",
            cause="lengths of the four are not told, 1,024 tokens are assumed; " + _SPLIT_CAUSE,
        )
        found.append(row("serving", claim, time_s[kind] * 1e3))
    return found
