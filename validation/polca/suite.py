"""Answers the claims by the shipped row, six weeks of it under POLCA and one without a policy."""

from __future__ import annotations

from archsim.config import load_spec
from archsim.servers.phases import phases
from archsim.servers.row import clocks_hz, play
from archsim.servers.spec import PolicySpec, RowSpec
from archsim.validation.framework import Row, answered

_NONE = PolicySpec(kind="none")
_SIX_WEEKS, _TUNED, _LOCKED = (
    "52 servers under POLCA for six weeks",
    "40 servers without a policy",
    "BLOOM-176B at 1110 MHz",
)


def rows() -> list[Row]:
    """One row for each claim."""
    spec = load_spec("polca_row", RowSpec, {}, category="experiments")
    clocks = clocks_hz(spec, [spec.policy])
    of = phases(spec, clocks)
    week = spec.model_copy(update={"days": 7})
    polca, free = play(spec, spec.policy, of, clocks), play(week, _NONE, of, clocks)
    as_planned = play(week, spec.policy, of, clocks)
    tuned = play(week.model_copy(update={"servers": 40}), _NONE, of, clocks)
    slow = clocks.index(spec.policy.lower_clock or 0)
    chat = list(spec.requests).index("chat_low")
    full_s, slow_s = (of.prompt_s[chat, i] + of.token_s[chat, i] for i in (0, slow))
    said = {
        (_TUNED, "peak of the limit"): float(tuned.power.max()),
        (_TUNED, "largest rise in 40 s"): tuned.rise(round(spec.command / spec.telemetry)),
        (_SIX_WEEKS, "brakes"): float(polca.brakes),
        (_SIX_WEEKS, "high priority P50 latency"): polca.latency_s[1] / free.latency_s[1],
        (_SIX_WEEKS, "low priority throughput"): as_planned.done[0] / free.done[0],
        (_LOCKED, "peak power of the accelerators saved"): 1 - of.prompt_w[chat, slow] / of.prompt_w[chat, 0],
        (_LOCKED, "performance lost"): 1 - full_s / slow_s,
    }
    return answered("polca", said)
