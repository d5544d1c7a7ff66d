"""Answers the claims by the shipped row, six weeks of it under POLCA and without, and by steps of training."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from archsim.config import load_spec
from archsim.servers.phases import phases
from archsim.servers.policy import PolicySpec
from archsim.servers.row import clocks_hz, play
from archsim.servers.spec import RowSpec
from archsim.training.cases import figures, setups_of
from archsim.validation.framework import Row, answered

_NONE = PolicySpec(kind="none")
_SIX_WEEKS, _TUNED = "52 servers under POLCA for six weeks", "40 servers without a policy"
_LOCKED = 1_110_000_000
_LOCKS = (1_305_000_000, 1_275_000_000, 1_200_000_000, _LOCKED, 1_050_000_000, 1_005_000_000)
_SERVED = {"bloom-176b": "BLOOM-176B", "gpt-neox-20b": "GPT-NeoX-20B"}
_TDP_W = 400.0
_TRAINED: dict[str, Any] = {"device": "a100_sxm4_80g", "gpus": 8, "framework": "megatron_lm", "precision": "fp16"}


def rows() -> list[Row]:
    """One row for each claim."""
    return answered("polca", _row() | _serving() | _training())


def _row() -> dict[tuple[str, str], float]:
    """The row: policies play the same six weeks, what is tuned the first of them."""
    spec = load_spec("polca_row", RowSpec, {}, category="experiments")
    clocks = clocks_hz(spec, [spec.policy])
    of = phases(spec, clocks)
    polca, free = play(spec, spec.policy, of, clocks), play(spec, _NONE, of, clocks)
    tuned = play(spec.model_copy(update={"servers": 40, "days": 7}), _NONE, of, clocks)
    return {
        (_TUNED, "peak of the limit"): float(tuned.power.max()),
        (_TUNED, "largest rise in 40 s"): tuned.rise(round(spec.command / spec.telemetry)),
        (_SIX_WEEKS, "brakes"): float(polca.brakes),
        (_SIX_WEEKS, "high priority P50 latency"): polca.latency_s[1] / free.latency_s[1],
        (_SIX_WEEKS, "low priority throughput"): polca.done[0] / free.done[0],
        (_SIX_WEEKS, "high priority throughput"): polca.done[1] / free.done[1],
        ("52 servers without a policy for six weeks", "brakes"): math.log10(max(free.brakes, 1)),
    }


def _serving() -> dict[tuple[str, str], float]:
    """A request of the row's chat under locked clocks."""
    said: dict[tuple[str, str], float] = {}
    saved, most = "peak power of the accelerators saved", 0.0
    for model, name in _SERVED.items():
        spec = load_spec("polca_row", RowSpec, {"model": model}, category="experiments")
        chat = spec.model_copy(update={"requests": {"chat": spec.requests["chat_low"]}})
        of = phases(chat, [0, *_LOCKS])
        whole_s = (of.prompt_s + of.token_s)[0]
        lost, less = 1 - whole_s[0] / whole_s, 1 - of.prompt_w[0] / of.prompt_w[0, 0]
        place = 1 + _LOCKS.index(_LOCKED)
        said[f"{name} serving, SMs at 1110 MHz", saved] = float(less[place])
        said[f"{name} serving, SMs at 1110 MHz", "performance lost"] = float(lost[place])
        most = max(most, float(np.interp(0.07, lost, less)))
    said["serving, the lock that loses 7% at most", saved] = most
    return said


def _training() -> dict[tuple[str, str], float]:
    """Steps of training under locked clocks, and what a meter reads between two of them."""

    def asked(**cut: Any) -> dict[str, Any]:
        return figures(setups_of(_TRAINED | cut))

    neox: dict[str, Any] = {"model": "gpt-neox-20b", "tp": 8, "global_batch": 64, "micro_batch": 4}
    full = asked(**neox)
    slowed = [full, *(asked(**neox, sm_clock_mhz=hz // 10**6) for hz in _LOCKS)]
    less = [1 - one["peak_power_w"] / full["peak_power_w"] for one in slowed]
    lost = [1 - full["iteration_ms"] / one["iteration_ms"] for one in slowed]
    staged = asked(**neox | {"tp": 2, "pp": 4, "global_batch": 32})
    roberta = asked(model="roberta-large", dp=8, global_batch=64, micro_batch=8)
    return {
        ("GPT-NeoX-20B training, tensor parallel", "performance lost where a fifth of the peak is saved"): float(
            np.interp(0.2, less, lost)
        ),
        ("GPT-NeoX-20B training, four stages of two", "trough"): staged["trough_power_w"] / _TDP_W,
        ("RoBERTa training, eight replicas", "trough"): roberta["trough_power_w"] / _TDP_W,
    }
