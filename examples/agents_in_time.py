"""Does it help agents to be scheduled by urgency? Text-to-SQL on a fast and a slow machine, under two schedulers."""

from archsim.serving.cases import answers

ASKED = {
    "model": "llama-3.1-8b",
    "pools": "h100_sxm;l40s",
    "max_num_seqs": "8",
    "workflow": "text_to_sql",
    "rate": "0.6",
    "requests": "60",
    "slo": "workflow=60s",
}
SCHEDULERS = {
    "in turn, first come first served": {"router": "round_robin", "policy": "chunked"},
    "weighed, first come first served": {"router": "balanced:alpha=0.3", "policy": "chunked"},
    "weighed, least slack first": {"router": "balanced:alpha=0.3", "policy": "urgent"},
}

cases = [ASKED | scheduler for scheduler in SCHEDULERS.values()]
for name, figures in zip(SCHEDULERS, answers(cases), strict=True):
    if isinstance(figures, Exception):
        raise figures
    print(
        f"{name:>32}: {figures['workflow_p95_ms'] / 1e3:5.1f} s for 95 of 100 questions, "
        f"{figures['workflow_kept_share']:4.0%} in time"
    )
