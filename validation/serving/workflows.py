"""Workflows: text-to-SQL under two schedulers, tree search with and without shared caches, branches inside an answer.

Of three papers whose headline figures alone are known. What they do not tell is assumed here and said; nothing was set
by the figures but how many trajectories a search keeps, which makes its cache as much smaller as is published.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from archsim.serving.balanced import Balanced, BalancedSpec
from archsim.serving.cases import answers
from archsim.serving.deploy import Deployment, engine_named
from archsim.serving.pools import Pool, mixed
from archsim.serving.service import Router, round_robin
from archsim.serving.workflows import serve
from archsim.validation.framework import Claim, Row, cases, row
from archsim.workloads.answer import Answer
from archsim.workloads.engine_spec import EngineSpec
from archsim.workloads.requests import Request
from archsim.workloads.workflow import Asked, linked
from archsim.workloads.workflow_answer import with_workflows


def workflows() -> list[Row]:
    """All answers."""
    return [*_token_times(), *_text_to_sql(), *_tree_search(), *_parallel_reasoning()]


def _served(
    pools: Sequence[Pool],
    requests: Sequence[Request],
    router: Router = round_robin,
    within_s: float | None = None,
    concurrency: int | None = None,
) -> Sequence[Answer]:
    """The answers of requests, and of workflows."""
    service = mixed(pools, router)
    if refused := serve(service, requests, within_s, concurrency):
        raise ValueError(f"refused: {refused}")
    return with_workflows(service.answer(), [r.step for r in requests if r.step is not None])


# --- text-to-SQL

_HEXGEN = "HexGen-Text2SQL (arXiv 2505.05286), abstract; lengths: Relaxed-System-Lab/Hexgen-Flow 396a3ba"
"""Lengths are facts taken from its three traces (the repository names no licence; the authors publish the traces as
fredpeng/Text2SQL_Workflow_Trace, Apache-2.0), each query once, with its places."""
_TOKEN_S = {"dgx_a100": 0.035, "rtx_a6000_x8": 0.058, "l40s_x8": 0.0545}
"""Of an answer, decode_time_per_token in simulator/core/obtain_latency.py."""
_TOGETHER = ("candidate", "evaluate")
"""Whose requests come at once, in simulator/core/request.py."""
_TEMPLATES = {
    "retrieve": 213,
    "extract": 630,
    "candidate": 5292,
    "revise": 3059,
    "unit_test": 213,
    "write_test": 436,
    "evaluate": 261,
}
"""Tokens of its templates, TEMPLATE_TOKENS in simulator/core/engine_optimized.py: prompts of a stage begin alike."""
_CLUSTERS = {
    "two A100, A6000, L40S": (("dgx_a100", 2), ("rtx_a6000_x8", 1), ("l40s_x8", 1)),
    "two A100, two A6000": (("dgx_a100", 2), ("rtx_a6000_x8", 2)),
}
"""Engines of four GPUs each, gpu_lst1 and gpu_lst2 in simulator/cli/start_simulator.py."""
_RATE, _ALPHAS = 0.5, (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
"""Queries a second, and weights that are tried, in simulator/cli/run_multiple_simulations.py."""
_WITHIN_S = 60.0
"""In which a query should be answered: about what its stages take alone on such engines, as theirs is."""
_CAUSE = (
    "rates, SLOs and servers are not told. At this rate queries come faster than they are answered; at a tenth to two "
    "fifths of it deadlines are 1.3 to 1.6 times shorter. Four L40S exchange as slowly as those that were measured and "
    "hold up round robin: at the rate of their links the gains are 2.1 and 1.8 with them, too"
)


def _token_times() -> Iterator[Row]:
    """A token of Llama-3.1-70B on four GPUs of each kind, alone."""
    asked = [
        {"model": "llama-3.1-70b", "system": system, "tp": "4", "rate": "1", "requests": "1", "input": "1109"}
        | {"output": "103"}
        for system in _TOKEN_S
    ]
    for case, figures in zip(asked, answers(asked), strict=True):
        if isinstance(figures, Exception):
            raise figures
        claim = Claim(
            case=f"llama-3.1-70b on 4 of {case['system']}, alone",
            metric="time of a token",
            unit="ms",
            published=1e3 * _TOKEN_S[case["system"]],
            tolerance=0.15,
            role="validation",
            source="Relaxed-System-Lab/Hexgen-Flow 396a3ba, simulator/core/obtain_latency.py",
            confidence="medium",
            cause="servers, engines and how many ran are not told",
        )
        yield row("serving", claim, figures["tpot_mean_ms"])


def _query(text: str) -> list[list[tuple[str, int, int]]]:
    """Requests of a query in the order in which they come, those that come at once together: stage, tokens in and out,
    written as ``revise 5859/74 6012/33; ...``."""
    groups = list[list[tuple[str, int, int]]]()
    for part in text.split("; "):
        stage, *lengths = part.split(" ")
        for length in lengths:
            prompt, answer = map(int, length.split("/"))
            if groups and stage in _TOGETHER and groups[-1][0][0] == stage:
                groups[-1].append((stage, prompt, answer))
            else:
                groups.append([(stage, prompt, answer)])
    return groups


@lru_cache(maxsize=3)
def _queries(trace: str) -> list[Request]:
    """Requests of a trace, whose queries come as a Poisson process."""
    queries = {
        int(place): _query(case["requests"])
        for case in cases("serving", "text2sql.csv")
        if case["trace"] == trace
        for place in case["places"].split(";")
    }
    at_s = np.random.default_rng(0).exponential(1 / _RATE, len(queries)).cumsum()
    asked = list[Asked]()
    for place, come_s in zip(sorted(queries), (at_s - at_s[0]).tolist(), strict=True):
        before: tuple[str, ...] = ()
        for turn, group in enumerate(queries[place]):
            ids = tuple(f"{turn}.{n}" for n in range(len(group)))
            at_ps = 0 if before else round(come_s * 10**12)
            for name, (stage, prompt, answer) in zip(ids, group, strict=True):
                shared = min(_TEMPLATES[stage], prompt - 1)
                asked.append(Asked(str(place), name, stage, prompt, answer, at_ps, before, shared=shared))
            before = ids
    return linked(asked)


def _scheduled(cluster: str, trace: str, alpha: float | None) -> tuple[float, float]:
    """Seconds in which 95 of 100 queries are answered, and queries a second; round robin and first come, first served
    where there is no ``alpha``."""
    engine = engine_named("vllm") if alpha is None else engine_named("vllm", policy="urgent")
    pools = [
        (Deployment("llama-3.1-70b", system, engine, tensor=4, longest=16_384), count)
        for system, count in _CLUSTERS[cluster]
    ]
    router = round_robin if alpha is None else Balanced(BalancedSpec(alpha=alpha))
    _, told = _served(pools, _queries(trace), router, _WITHIN_S)
    return told.summary["workflow_s"]["p95"], told.summary["workflows_per_s"]


def _text_to_sql() -> Iterator[Row]:
    """How much shorter a deadline 95 of 100 queries keep, and how many more are answered, under a dispatcher that
    weighs and queues by urgency, the weight chosen for each trace, than under round robin."""
    gains: dict[str, list[tuple[float, float]]] = {}
    for cluster in _CLUSTERS:
        for trace in ("1", "2", "3"):
            late_s, rate = _scheduled(cluster, trace, None)
            best_s, best_rate = min(_scheduled(cluster, trace, alpha) for alpha in _ALPHAS)
            gains.setdefault(cluster, []).append((late_s / best_s, best_rate / rate))
    for cluster, each in gains.items():
        for number, (metric, published) in enumerate((("deadline of 95%", 1.41), ("queries a second", 1.65))):
            claim = Claim(
                case=f"text-to-SQL on {cluster}, mean of three traces",
                metric=f"gain in {metric}",
                unit="x",
                published=published,
                tolerance=0.20,
                role="validation",
                source=_HEXGEN,
                cause=_CAUSE,
            )
            yield row("serving", claim, float(np.mean([gain[number] for gain in each])))


# --- tree search

_ETS = "ETS (arXiv 2502.13575), abstract; settings: SqueezeAILab/ETS, rebase.py and hype-parameters"
_PROBLEMS, _THREADS = 8, 8
"""Problems, and of these at a time (num_threads)."""
_TEMPERATURE = 0.2
"""Of rewards (softmax_temperature)."""
_PROBLEM_TOKENS, _STEP_TOKENS, _STEPS = 150, 64, 10
"""Assumed, within its bounds of 256 tokens a step and 1,024 in all. So are rewards: even from 0 to 1."""
_LESS = 1.8
"""Cache of a search, published."""
_WIDTHS = {256: 1.4, 64: 1.4, 16: 1.4}
"""Trajectories at a time, and the gain in throughput that is published without saying at which."""


def _balanced_widths(rewards: Sequence[float], width: int) -> list[tuple[int, int]]:
    """How many go on from each of some trajectories, best first: REBASE's rule, its share of the softmax rounded up
    until none is left."""
    best = sorted(range(len(rewards)), key=lambda i: -rewards[i])
    weights = [math.exp(rewards[i] / _TEMPERATURE) for i in best]
    total, found = sum(weights), list[tuple[int, int]]()
    for i, weight in zip(best, weights, strict=True):
        if not width:
            break
        mine = min(width, math.ceil(width * weight / total)) if total > weight else width
        found.append((i, mine))
        width, total = width - mine, total - weight
    return found


def _tree(name: str, width: int, kept: float) -> tuple[list[Asked], float]:
    """Requests of a search that goes on from a share of the trajectories that REBASE would, the best ones; and tokens
    in its tree on average over its steps (get_kv_size)."""
    rng = np.random.default_rng((0, int(name)))
    asked, parent, sizes = [Asked(name, "problem", "problem", _PROBLEM_TOKENS, 1)], dict[str, str](), list[int]()
    widths = [("problem", width)]
    before: tuple[str, ...] = ("problem",)
    for step in range(_STEPS):
        ids = list[str]()
        for one, count in widths:
            for _ in range(count):
                ids.append(f"{step}.{len(ids)}")
                parent[ids[-1]] = one
                asked.append(Asked(name, ids[-1], "step", 1, _STEP_TOKENS, 0, before, context=(one,), beside=True))
        seen = set[str]()
        for one in ids:
            while one in parent and one not in seen:
                seen.add(one)
                one = parent[one]
        sizes.append(_PROBLEM_TOKENS + len(seen) * (1 + _STEP_TOKENS))
        rewards = rng.random(len(ids)).tolist()
        best = [i for i, _ in _balanced_widths(rewards, width)]
        best = best[: max(1, round(kept * len(best)))]
        widths = [(ids[best[i]], count) for i, count in _balanced_widths([rewards[i] for i in best], width)]
        before = tuple(ids)
    return asked, float(np.mean(sizes))


def _trees(width: int, kept: float) -> tuple[list[Asked], float]:
    """Of all problems, and their mean tokens."""
    trees = [_tree(str(number), width, kept) for number in range(_PROBLEMS)]
    return [one for asked, _ in trees for one in asked], float(np.mean([size for _, size in trees]))


def _kept(width: int) -> float:
    """The share of trajectories with which a tree has so much fewer tokens, or the least there is."""
    _, whole = _trees(width, 1.0)
    low, high = 0.0, 1.0
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if _trees(width, middle)[1] < whole / _LESS else (low, middle)
    return high


def _tree_search() -> Iterator[Row]:
    """Problems a second by trees whose caches are smaller, by those of trees of REBASE; and how much smaller."""
    pools = [(Deployment("llemma-34b", "h100_nvl", engine_named("sglang"), longest=1024), 1)]
    for width, published in _WIDTHS.items():
        whole, smaller = (_trees(width, kept) for kept in (1.0, _kept(width)))
        rates = []
        for asked, _ in (whole, smaller):
            _, told = _served(pools, linked(asked), concurrency=_THREADS)
            rates.append(told.summary["workflows_per_s"])
        yield _tree_row(width, "tokens of a tree, times fewer", _LESS, whole[1] / smaller[1])
        yield _tree_row(width, "gain in problems a second", published, rates[1] / rates[0])


def _tree_row(width: int, metric: str, published: float, found: float) -> Row:
    claim = Claim(
        case=f"tree search of width {width}, llemma-34b on H100 NVL",
        metric=metric,
        unit="x",
        published=published,
        tolerance=0.10,
        role="calibration" if metric.startswith("tokens") and width > 16 else "validation",
        source=_ETS,
        cause="at which width, and how long steps are, is not told. What fits decides: trees of 64 and 16 fit the "
        "cache, and what is shared is read by each that shares it; eight of 256 do not, and smaller ones just do. Of "
        "16 the last steps are more than half of a tree",
    )
    return row("serving", claim, found)


# --- branches inside an answer

_MULTIVERSE = "Multiverse (arXiv 2506.09991), abstract: up to 2x, of 1 to 128 answers at a time"
_TOKENS, _BLOCKS, _BRANCHES, _PARALLELISM = 2048, 4, 3, 2.0
"""Of an answer, how often it forks, into how many: assumed. All tokens by those on the longest way: the most that is
plausible; its answers have 1.15 to 1.18 on average."""
_PROMPT = 100


def _forked(number: int) -> list[Asked]:
    """An answer that maps, processes branches and reduces, over and over."""
    tokens = _TOKENS // _BLOCKS
    branch = round(tokens * (_PARALLELISM - 1) / (_PARALLELISM * (_BRANCHES - 1)))
    alone = tokens - _BRANCHES * branch
    name, before, asked = str(number), tuple[str, ...](), list[Asked]()
    for block in range(_BLOCKS):
        prompt = 1 if before else _PROMPT
        first, last = f"{block}.map", f"{block}.reduce"
        asked.append(Asked(name, first, "map", prompt, alone // 2, 0, before, context=before, beside=True))
        ids = tuple(f"{block}.{n}" for n in range(_BRANCHES))
        asked += [Asked(name, one, "branch", 1, branch, 0, (first,), context=(first,), beside=True) for one in ids]
        asked.append(Asked(name, last, "reduce", 1, alone - alone // 2, 0, ids, context=ids, beside=True))
        before = (last,)
    return asked


def _parallel_reasoning() -> Iterator[Row]:
    """How much sooner as many tokens are there."""
    engine = engine_named("sglang", **{"host.token": "0 us"})  # which forks within: what it has is not tokenised again
    for batch in (1, 32, 128):
        ended = _ended_s(engine, lambda n: [Asked(str(n), "all", "all", _PROMPT, _TOKENS)], batch)
        claim = Claim(
            case=f"answers of qwen2.5-32b on B200 in branches, {batch} at a time, parallelism {_PARALLELISM:g}",
            metric="speedup",
            unit="x",
            published=2.0,
            tolerance=0.10,
            role="validation",
            source=_MULTIVERSE,
            cause="branches read what they share each for itself, and three times as many sequences are computed at a "
            "time: nothing while weights are what is read, half of a step with 128 answers",
        )
        yield row("serving", claim, ended / _ended_s(engine, _forked, batch))


def _ended_s(engine: EngineSpec, answer: Callable[[int], list[Asked]], batch: int) -> Any:
    """Seconds until an answer is there on average, so many at a time."""
    pools = [(Deployment("qwen2.5-32b", "b200_sxm", engine, longest=4096), 1)]
    requests = linked([one for number in range(batch) for one in answer(number)], "branches")
    _, told = _served(pools, requests, concurrency=batch)
    return told.summary["workflow_s"]["mean"]
