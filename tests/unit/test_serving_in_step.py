"""Replicas of attention, and stages of a pipeline: engines played by hand, each iteration asked of the judge."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache

import pytest

from archsim import runs
from archsim.config import load_spec
from archsim.machine import Machine, SystemSpec
from archsim.serving.service import Service, costs_of, replica
from archsim.sim.judge import judged
from archsim.sim.setting import Setting
from archsim.workloads import scheduler
from archsim.workloads.deployed import Deployed
from archsim.workloads.engine_spec import EngineSpec
from archsim.workloads.requests import Request
from archsim.workloads.task import Job, Task
from archsim.workloads.transformer_spec import TransformerSpec

SMALL = {"name": "small", "layers": 3, "hidden": 64, "heads": 4, "kv_heads": 2, "head_dim": 16, "intermediate": 128}
SMALL |= {"vocab": 500, "max_positions": 4096}
WINDOWED = {**SMALL, "window": 32, "window_layers": "alternate"}
MIXTURE = {**SMALL, "layers": 4, "moe": {"experts": 8, "experts_per_token": 2, "expert_intermediate": 64}}
LATENT = {**MIXTURE, "mla": {"kv_lora_rank": 32, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16}}
LAUNCHING = {"step": "3 us", "launch": "7 us", "graph_tokens": 16}
REQUESTS = [Request(n * 30_000_000, 20 + 17 * (n % 3), 2 + n % 4) for n in range(9)]
LONGER = [Request(n * 170_000_000, 20 + 17 * (n % 3), 8 + 5 * (n % 4)) for n in range(10)]


class ByHand:
    """Lanes of engines in step over stages; an iteration takes what the judge says of the longest of a lane's."""

    def __init__(self, deployed, machine, tensor, data):
        self.deployed, self.machine, self.ranks = deployed, machine, tensor * data
        stages = len(deployed.stages)
        self.pieces = [deployed.pieces(self.ranks, stage) for stage in range(stages)]
        self.lanes = [[deployed.started() for _ in range(data)] for _ in range(stages)]
        self.asked = lru_cache(maxsize=None)(self._judged)
        self.waited, self.batched = [0] * stages, [0] * stages

    def _judged(self, stage, shape):
        segment = self.pieces[stage].of(shape)
        job = Job("one", (Task(0, "engine", "iteration", segment),), {0: range(self.ranks)})
        lower = runs._lowering(self.machine, {0: self.machine.place(self.deployed.held[stage])}, job)
        times = judged(job, Setting(self.machine.time, self.machine.network, self.machine.grains(), lower))
        host = self.deployed.engine.host.ps(shape, self.ranks) if stage == 0 else 0
        launching = self.pieces[stage].launching_ps(shape)
        return max(times.ticks, int(self.machine.time.ps(host + launching)) if launching else 0)

    def sent(self, stage, shape):
        if stage == len(self.pieces) - 1:
            return 0
        n_bytes = 2 * 2 * 64 * shape.tokens // self.deployed.inference.tensor_parallel  # hidden state, residual
        return self.machine.network.send(stage * self.ranks, (stage + 1) * self.ranks, n_bytes).ticks

    def holds(self, lane, now_ps):
        """Whether prompts wait, each iteration looked at by itself."""
        told = self.deployed.engine.aligns
        if told is None:
            return False
        engines, prompts, answers = self.lanes[lane], [], []
        for engine in engines:
            engine.look(now_ps)
            one = engine.scheduler
            decoding = [request for request in one.running if request.decodes]
            fits = bool(one.waiting) and len(one.running) < one.limits.sequences
            prompts.append(len(decoding) < len(one.running) or fits)
            answers.append(bool(decoding) or not engine.load)
        if all(prompts):
            self.waited[lane] = 0
            if all(answers) and self.batched[lane] < told.batching:
                self.batched[lane] += 1
                return True
            if all(answers):
                self.batched[lane] = 0
            return False
        self.waited[lane] += 1
        if self.waited[lane] >= told.timeout or not all(answers):
            self.waited[lane] = 0
            return False
        return True

    def serve(self, requests):
        time, coming = self.machine.time, list(enumerate(requests))
        free, ready, turns = [0] * len(self.pieces), [0] * len(self.lanes), [0] * len(self.lanes[0])
        while True:
            starts = [
                (max(ready[n], free[0]), ready[n], n) for n, lane in enumerate(self.lanes) if any(e.load for e in lane)
            ]
            if coming and (not starts or time.ps(coming[0][1].arrival_ps) <= min(starts)[0]):
                number, request = coming.pop(0)
                loads = [sum(lane[part].load for lane in self.lanes) for part in range(len(turns))]
                part = number % len(turns) if self.deployed.engine.in_turn else loads.index(min(loads))
                lane = turns[part] % len(self.lanes)
                turns[part] += 1
                if not any(e.load for e in self.lanes[lane]):
                    ready[lane] = int(time.ps(request.arrival_ps))
                self.lanes[lane][part].submit(self.deployed.served(number, request, request.arrival_ps))
                continue
            if not starts:
                return
            start, _, lane = min(starts)
            now_ps = time.whole_ps(start)
            holds = self.holds(lane, now_ps)
            chosen = [(e, i) for e in self.lanes[lane] if (i := e.next(now_ps, holds)) is not None]
            at, shapes = start, [i.shape() for _, i in chosen]
            if len(turns) > 1 and any(shape.prompts for shape in shapes):  # experts have the tokens that there are
                most = max(shape.tokens for shape in shapes)
                group = most * math.ceil(sum(shape.tokens for shape in shapes) / most)
                shapes = [replace(shape, group=group) for shape in shapes]
            for stage in range(len(self.pieces)):
                at = free[stage] = max(at, free[stage]) + max(self.asked(stage, shape) for shape in shapes)
                at += max(self.sent(stage, shape) for shape in shapes)
            ready[lane] = at
            for engine, iteration in chosen:
                engine.ended(iteration, time.whole_ps(start), [time.whole_ps(at)])


@pytest.mark.parametrize(
    ("model", "tensor", "data", "stages", "engine"),
    [
        (MIXTURE, 1, 2, 1, {"host": {"step": "10 us", "sequence": "1 us"}}),
        (LATENT, 1, 2, 1, {"sampling_ops": 100, "ahead": True, "in_turn": True}),
        (MIXTURE, 1, 2, 2, {"host": LAUNCHING}),
        (MIXTURE, 2, 2, 2, {"reserves": False, "kv_blocks": 5}),
        (WINDOWED, 1, 2, 3, {"fuses_norms": "attention", "in_turn": True}),
        (MIXTURE, 1, 2, 1, {"aligns": {"timeout": 4, "batching": 0}, "max_num_seqs": 3}),
        (SMALL, 1, 4, 1, {"aligns": {"timeout": 7, "batching": 2}}),
        (SMALL, 1, 2, 2, {"aligns": {"timeout": 3, "batching": 1}}),
    ],
)
def test_engines_in_step_equal_the_judge(model, tensor, data, stages, engine, monkeypatch):
    machine = Machine(load_spec("dgx_h100", SystemSpec, category="systems"))
    spread = {"expert_parallel": tensor * data} if "moe" in model else {}
    cut = {"tensor_parallel": tensor, "data_parallel": data, "batch": data, **spread}
    inference = load_spec({"model": model, "input": 1, "output": 2, "dtype": "bf16", **cut}, TransformerSpec)
    spec = load_spec({"policy": "chunked", "chunk": 24, **engine}, EngineSpec)
    deployed = Deployed(inference, spec, machine.room_bytes, machine.formats(), 70, stages)
    requests = LONGER if "aligns" in engine else REQUESTS
    by_hand = ByHand(deployed, machine, tensor, data)
    with monkeypatch.context() as step_by_step:
        step_by_step.setattr(scheduler, "_MOST_STEPS", 1)
        by_hand.serve(requests)
    quick = Service([replica(machine, deployed, costs_of(machine, deployed, tensor * data), data)])
    assert quick.serve(requests) == {}
    engines = [engine for lane in by_hand.lanes for engine in lane]
    rows = sorted((r.number, r.scheduled_ps, r.first_token_ps, r.end_ps) for e in engines for r in e.requests)
    assert all(engine.requests for engine in engines)
    told = quick.answer().rows
    assert [(r["request"], r["scheduled_s"], r["first_token_s"], r["end_s"]) for r in told] == [
        (number, *(ps / 1e12 for ps in times)) for number, *times in rows
    ]
