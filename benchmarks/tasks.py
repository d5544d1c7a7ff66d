"""Graphs of tasks without any repetition, and streams that meet at memories."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

from archsim import run
from archsim.components.network.network import Network, NetworkSpec
from archsim.sim.setting import Setting
from archsim.sim.world import play
from archsim.timebase import Timebase
from archsim.workloads.task import After, Job, Pause, Receive, Send, Task
from benchmarks.row import Row, below
from benchmarks.timing import cpu_s

_RANKS = 100
_LINK = {"kind": "link", "bandwidth": "1 TB/s", "latency": "3 ps", "source": "made up"}


def graph(count: int, seed: int = 1) -> Job:
    """So many tasks of 100 ranks: pauses that wait for two others, and every twentieth a message."""
    rng, tasks, known = random.Random(seed), list[Task](), list[tuple[int, str]]()
    for number in range(count):
        rank, name = rng.randrange(_RANKS), f"t{number}"
        if number % 20 == 19:
            to = (rank + 1 + rng.randrange(_RANKS - 1)) % _RANKS
            tasks.append(Task(rank, "s", name, Send(to, rng.randrange(1, 40), name)))
            tasks.append(Task(to, "r", f"{name}.in", Receive(rank, name)))
            known.append((to, f"{name}.in"))
            continue
        waits = {known[-1 - rng.randrange(min(len(known), 400))] for _ in range(2)} if known else set()
        after = tuple(After(task, of) for of, task in sorted(waits))
        tasks.append(Task(rank, "s" if number % 3 else "u", name, Pause(rng.randrange(1, 1000)), after))
        known.append((rank, name))
    return Job("graph", tuple(tasks))


def measure() -> Iterator[Row]:
    """Rows of the benchmark."""
    time_of = Timebase([10**12])
    spec = {"dimensions": [{"topology": "switch", "ranks": _RANKS, "link": _LINK}]}
    network = Network(NetworkSpec.model_validate(spec), "network", time_of)
    job = graph(1_000_000)
    start = time.process_time()
    play(job, Setting(time_of, network, {}, lambda rank, segment: []))
    how = "100 ranks, three streams each, a twentieth messages"
    yield below("a million tasks without repetition", time.process_time() - start, 30, how, digits=1)
    decode = cpu_s(lambda: run("deepseek_r1_decode_on_cloudmatrix384", overrides={"workload.output": 28}), runs=3)
    yield below("DeepSeek-R1, 16 steps of decoding, two streams", decode, 0.4, "on CloudMatrix384, warm")
    yield from _tiers()


def _tiers() -> Iterator[Row]:
    """Models larger than a memory, and on many sockets."""
    for ahead in (0, 1):
        changes = {"workload.batches": 125, "workload.ahead": ahead}
        seconds = cpu_s(lambda changes=changes: run("samba_coe_on_sn40l_node", overrides=changes), runs=3)
        yield below("a thousand requests of 150 experts", seconds, 3, f"on an SN40L node, {ahead} copied ahead")
    wide = {"system": "sn40l_16_sockets", "workload.model": "llama-3.1-70b", "workload.tensor_parallel": 16}
    seconds = cpu_s(lambda: run("llama_2_7b_decode_on_sn40l_node", overrides=wide), runs=3)
    yield below("decoding of Llama-3.1-70B", seconds, 1, "on 16 sockets of SN40L, warm")
    seconds = cpu_s(lambda: run(_LAYER_BY_LAYER), runs=3)
    yield below("OPT-175B layer by layer", seconds, 1, "a prompt of 64 tokens, through an H100 from its host")


_LAYER_BY_LAYER = {
    "name": "layer by layer",
    "chip": {
        "extends": "chips/h100_sxm_with_host",
        "memories": {"host": {"capacity": "512 GB"}},
        "residency": {"rules": {"*": "host"}},
        "placement": {"weight": {"hbm": 0.99, "host": 0.01}, "kv": "hbm"},
    },
    "workload": {"kind": "transformer", "model": "opt-175b", "dtype": "fp16", "input": 64, "output": 2},
}
