"""A model served: requests that come as they come, or the rows of serving benchmarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from archsim.alone.question import Answer, Case, Column, Figures, Output, Question

_FIGURES = (
    *(
        f"{name}_{which}_ms"
        for name in ("ttft", "tpot", "itl", "e2e", "workflow")
        for which in ("mean", "p50", "p90", "p95", "p99")
    ),
    "itl_median_ms",
    "ttft_ms",
    "tpot_ms",
    "latency_ms",
    "completed",
    "refused",
    "refusals",
    "input_tokens",
    "output_tokens",
    "duration_s",
    "requests_per_s",
    "input_tokens_per_s",
    "output_tokens_per_s",
    "goodput_per_s",
    "kept_share",
    "energy_j",
    "mean_power_w",
    "energy_per_token_j",
    "energy_per_output_token_j",
    "output_tokens_per_s_per_mw",
    "kv_blocks",
    "most_running",
    "most_waiting",
    "most_kv_blocks",
    "mean_kv_blocks",
    "preemptions",
    "reused_tokens",
    "kv_tier_blocks",
    "fetched_tokens",
    "swaps",
    "replica_hours",
    "mean_replicas",
    "most_replicas",
    "starts",
    "workflows",
    "workflows_completed",
    "workflows_per_s",
    "requests_per_workflow",
    "workflow_goodput_per_s",
    "workflow_kept_share",
    "verdict",
    "gpus",
)


def answers(cases: Sequence[Case]) -> list[Answer]:
    """Figures of what is served."""
    from archsim.serving.cases import answers as asked

    return [
        answer if isinstance(answer, Exception) else _plain(answer, case)
        for answer, case in zip(asked(cases), cases, strict=True)
    ]


def _plain(figures: Figures, case: Case) -> Figures:
    """Without the number of chips where the row tells it."""
    return {name: value for name, value in figures.items() if name != "gpus" or not case.get("gpus")}


def _written(case: Case, outputs: Mapping[str, Path]) -> Figures:
    """The answer; each request, and a page to look at as well."""
    from archsim.files import write_rows, write_text
    from archsim.report.serving import page
    from archsim.serving.cases.offered import offered

    figures, answers = offered(case)
    if "each" in outputs:
        write_rows(outputs["each"], answers[0].rows)
    if "report" in outputs:
        write_text(outputs["report"], page([answer.plain() for answer in answers], dict(case)))
    return figures


_ABOUT = """Serve a model: latencies, throughput and energy of requests.

    \b
    archsim serve --model llama-3.1-8b --system h100_sxm --rate 8 --input 1000 --output 200
    archsim serve --model qwen2.5-7b --system h100_sxm --trace arrivals.csv --slo ttft=1s
    archsim serve --model llama-3-8b --system h100_sxm --rate 60 --input 1000 --output 200 --replicas 4
    archsim serve --model llama-3-8b --system h100_sxm --rate 8 --input 900 --output 200 --report page.html
    archsim serve --model llama-3.1-8b --system h100_sxm --workflow tree_search --rate 1 --requests 9 --slo workflow=20s
    archsim serve --cases serving_cases.csv --out answers.csv

    The columns of a file say what is asked: arrival_s, input_toks, output_toks requests one by one; question_len,
    system_prompt_len, stages a service under stages of constant rate; mean_batch, mean_output_len a steady state; isl,
    osl, batch_size so many requests at a time; prefill_... and decode_... with concurrency prompts and answers on
    machines of their own; rate, input, output or trace requests as they come.
"""

QUESTION = Question(
    name="serve",
    about=_ABOUT,
    columns=(
        Column(
            "model", "Model: shipped name, its name at Hugging Face, or a file.", kind="named", aliases=("model_path",)
        ),
        Column("system", "Chip or system: shipped name, or file of either.", kind="named", aliases=("device", "hw")),
        Column("engine", "vllm, sglang, trtllm, or a file.", kind="named", aliases=("backend",)),
        Column("rate", "Requests of a second."),
        Column(
            "concurrency",
            "Requests, or workflows, at a time, each the next when another has ended, in place of a rate.",
        ),
        Column("input", "Tokens of a prompt."),
        Column("output", "Tokens of an answer."),
        Column("workflow", "Workflows that are drawn: shipped name (text_to_sql, ...), or file.", kind="named"),
        Column("requests", "How many requests, or workflows; 512, or all of a trace."),
        Column(
            "arrivals",
            "How they come: poisson, constant, or gamma or weibull with a cv.",
            known=("poisson", "constant", "gamma", "weibull"),
        ),
        Column("cv", "Deviation of gamma and weibull gaps by their mean."),
        Column("pattern", "Of the rate: steady, on_off bursts, or diurnal.", known=("steady", "on_off", "diurnal")),
        Column("period_s", "Of bursts, or of the day: 86400."),
        Column("on_share", "Of a period, how long bursts last: 0.5."),
        Column("swing", "Of the rate about its mean over a day: 0.5."),
        Column("stages", "Rates one after the other: '2/s x 60s;6/s x 60s'."),
        Column(
            "lengths",
            "About their means: fixed, uniform, exponential or lognormal.",
            known=("fixed", "uniform", "exponential", "lognormal"),
        ),
        Column("spread", "Deviation of uniform and lognormal lengths by their mean: 0.5."),
        Column("system_prompt", "Tokens with which all prompts begin alike."),
        Column("turns", "Requests of a chat, each with all that was said before."),
        Column("think_s", "Seconds between requests of a chat: 10."),
        Column("seed", "Of what is drawn."),
        Column("trace", "Recorded requests or workflows: a file, or a shipped trace.", metavar="FILE"),
        Column(
            "joins",
            "What a request that continues from several branches finds in the cache of those but the first: recompute "
            "(nothing), or branches (their keys as they are).",
            known=("recompute", "branches"),
        ),
        Column("precision", "Weights: bf16, fp8, nvfp4, int4, ..."),
        Column("kv_dtype", "KV cache: bf16 or fp8."),
        Column("tp", "Chips that share each layer."),
        Column("pp", "Stages of layers, each on as many chips."),
        Column("ep", "Chips that share the experts of a layer."),
        Column("dp", "Replicas of attention among the chips that share experts."),
        Column(
            "residual",
            "What layers read, where a model is to have it otherwise: all sums before (summed), all but the one under "
            "way (ladder), a rank's own (apart).",
            known=("summed", "ladder", "apart"),
        ),
        Column(
            "routing",
            "How tokens choose experts: uniform (chats of many users), uneven (one kind of text, such as benchmarks' "
            "random tokens: usual where a row gives isl), or balanced.",
            known=("uniform", "uneven", "balanced"),
        ),
        Column("replicas", "Engines behind a router."),
        Column("pools", "Replicas of several machines: 'h100_sxm:tp=2:replicas=2;l40s:replicas=4'."),
        Column("prefill", "Pools of replicas that compute prompts alone, written as pools."),
        Column("decode", "Pools of replicas that answer alone."),
        Column(
            "router",
            "Of requests: least_loaded, round_robin, prefix_aware, least_time, balanced:alpha=0.5, or one of another "
            "package.",
        ),
        Column(
            "autoscale",
            "How many replicas serve over time: 'load:requests=32:most=8:start_s=40', 'queue:waiting=4:...' (also "
            "least, every_s, calm_s, weights=host), or a policy of another package.",
        ),
        Column("policy", "Of an engine, who is computed next, such as urgent; its own when absent."),
        Column("max_num_seqs", "Sequences that an engine runs at a time."),
        Column("max_num_batched_tokens", "New tokens of an iteration at most."),
        Column("drafts", "Tokens that are drafted for a step and checked together."),
        Column("acceptance", "How often a draft is right where the one before it is: 0 to 1."),
        Column("draft", "By a layer (multi-token prediction, EAGLE) or by lookup.", known=("layer", "lookup")),
        Column(
            "aligns_timeout",
            "Iterations that prompts of replicas of attention wait for each other at most (TensorRT-LLM's "
            "attention_dp_config).",
        ),
        Column("aligns_batching", "Iterations that they wait for more of them once all have some."),
        Column("host", "Of each chip, where it has none: pcie5_server, grace_c2c, or a file.", kind="named"),
        Column("preemption", "Of who loses its cache: recompute or swap.", known=("recompute", "swap")),
        Column("kv_tier", "Farther memory for blocks of the cache, such as host."),
        Column("kv_tier_bytes", "Of that memory for a chip's cache, such as '64 GB'."),
        Column("slo", "Objectives: ttft=500ms,tpot=20ms,e2e=5s; workflow=30s of workflows."),
        Column("classes", "Of requests: 'chat=0.7:ttft=300ms,tpot=20ms;batch=0.3:e2e=60s'."),
    ),
    answers=answers,
    figures=_FIGURES,
    together=True,
    outputs=(
        Output("each", "FILE.csv", "For each request."),
        Output("report", "FILE.html", "For a page with latencies, and what ran and waited over time."),
    ),
    written=_written,
)
