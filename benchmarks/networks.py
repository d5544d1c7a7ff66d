"""Collectives of many ranks, messages one by one, and routers cycle by cycle.

Where the variable BOOKSIM names its binary, BookSim runs here.
"""

from __future__ import annotations

import math
import os
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from archsim.components.network.cases import answer, astra_sim_cycles
from archsim.components.network.flow import Flows
from archsim.components.network.graph import Ways, cube
from archsim.components.network.link import LinkSpec
from archsim.components.network.message_kernel import Lists, Schedule, run
from archsim.components.network.network import Network, NetworkSpec
from archsim.components.network.router_level.fabric import cube as mesh
from archsim.components.network.router_level.kernel import advance
from archsim.components.network.router_level.state import RouterSpec, new_state
from archsim.components.network.router_level.traffic import traffic
from archsim.config import load_spec
from archsim.timebase import Timebase
from benchmarks.row import Peer, Row, below, beside
from benchmarks.timing import cpu_s, process_cpu_s

_ASTRA_SIM = Peer("ASTRA-sim", None, "ASTRA-sim is not built here")
_ASTRA = {
    "backend": "aware",
    "collective": "all_reduce",
    "comm_size_bytes": str(2**30),
    "npus_per_dim": "1024",
    "topology": "Ring",
    "bandwidth_GiBps": "50.0",
    "latency_ns": "500.0",
    "implementation": "ring",
    "preferred_dataset_splits": "4",
}


_BOOKSIM_CONFIG = """topology = mesh; k = 8; n = 2; routing_function = dor; traffic = uniform; num_vcs = 4;
vc_buf_size = 8; injection_rate = 0.2; injection_rate_uses_flits = 1; packet_size = 1; routing_delay = 0;
sim_type = latency; vc_allocator = separable_input_first; sw_allocator = separable_input_first; sample_period = 5000;
"""


def _booksim(binary: str) -> float:
    """Router cycles per CPU second of BookSim, the whole process."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "mesh"
        config.write_text(_BOOKSIM_CONFIG.replace("; ", ";\n"))
        seconds, printed = process_cpu_s([binary, str(config)], check=False)  # it ends with -1 when all is well
    return int(re.findall(r"Time taken is (\d+) cycles", printed)[-1]) / seconds


def _ring(ranks: int, n_bytes: int) -> tuple[Network, Schedule]:
    """A ring, and all messages of its all-reduce: message ``step * ranks + rank`` goes from the rank to the next."""
    link = {"kind": "link", "bandwidth": "50 GB/s", "latency": "500 ns"}
    spec = {"kind": "network", "dimensions": [{"topology": "ring", "ranks": ranks, "link": link}]}
    net = Network(NetworkSpec.model_validate(spec), "net", Timebase())
    steps = 2 * (ranks - 1)
    number = np.arange(steps * ranks)
    rank, step = number % ranks, number // ranks
    feeds = step + 1 < steps
    waiting = np.concatenate([((step + 1) * ranks + (rank + 1) % ranks)[feeds], np.arange(ranks)])
    starts = np.concatenate([[0], np.cumsum(np.concatenate([feeds, np.ones(ranks, dtype=bool)]))])
    busy = int(net.links[0].serialization(-(-n_bytes // ranks)))
    ticks = np.array([[busy]])
    one = np.arange(number.size + 1)
    gates = number.size + ranks
    schedule = Schedule(
        paths=Lists(one, rank),
        sizes=np.zeros(number.size, dtype=np.int64),
        source=rank,
        target=(rank + 1) % ranks,
        use=np.zeros(number.size, dtype=np.int64),
        kind=np.zeros(ranks, dtype=np.int64),
        medium=np.arange(ranks),
        latency=np.full(1, net.links[0].latency),
        busy=ticks,
        arrival=ticks + net.links[0].latency,
        head=ticks + net.links[0].latency,
        feeds=Lists(one, number),
        needs=np.where(np.arange(gates) < number.size, 1, 0),
        waiting=Lists(starts, waiting),
        chain=np.full(gates, -1),
        closed=np.ones(number.size, dtype=np.int64),
        starts=np.zeros(ranks, dtype=np.int64),
        first=number.size + np.arange(ranks),
    )
    return net, schedule


def _one_slow_link(*rings: int) -> tuple[float, float]:
    """CPU seconds of an all-reduce of 1 GiB with one link at half its rate: lines in equal state once, and each."""
    link = {"kind": "link", "bandwidth": "50 GB/s", "latency": "500 ns"}
    dimensions = [{"topology": "ring", "ranks": ranks, "link": link} for ranks in rings]
    net = Network(NetworkSpec.model_validate({"kind": "network", "dimensions": dimensions}), "net", Timebase())
    slow = {(0, 0, 1): LinkSpec.model_validate(link | {"bandwidth": "25 GB/s"})}
    folded, each = (
        lambda brute=brute: net.simulate("all_reduce", 2**30, net.ranks, links=slow, brute_force=brute)
        for brute in (False, True)
    )
    if net.ranks > 1024:
        return cpu_s(folded), math.inf
    assert folded() == each()
    return cpu_s(folded), cpu_s(each)


def measure() -> Iterator[Row]:
    """Rows of the table."""
    dims = {"npus_per_dim": "32x32x16", "topology": "Ring/Ring/Switch", "implementation": "ring/ring/direct"}
    three = _ASTRA | dims | {"bandwidth_GiBps": "100.0/100.0/50.0", "latency_ns": "300.0/300.0/700.0"}
    many = {**three, "backend": "unaware"}
    switch = {
        **_ASTRA,
        "collective": "all_to_all",
        "npus_per_dim": "256",
        "topology": "Switch",
        "implementation": "direct",
    }
    how = "ASTRA-sim's accounting, exact"
    for what, limit, case in (
        ("1 GiB ring all-reduce, 1,024 ranks, 4 chunks", 0.25, _ASTRA),
        ("all-to-all, 256 ranks on a switch", 0.1, switch),
        ("all-reduce, 16,384 ranks in three dimensions", 5, many),
    ):
        yield below(what, cpu_s(lambda case=case: astra_sim_cycles(case)), limit, how, digits=4)  # type: ignore[misc]
    once, each = _one_slow_link(8, 8, 16)
    how = f"lines in equal state played once, equal to the tick; each line alone {each:.2f} s"
    yield below("the same on rings, 8x8x16, one slow link", once, each, how)
    how = "1,083 of 3,072 lines differ"
    yield below("all-reduce on rings, 32x32x16, one slow link", _one_slow_link(32, 32, 16)[0], 5, how)
    yield from _graphs()
    net, schedule = _ring(1024, 2**30)
    run(_ring(8, 2**20)[1])
    begin = time.process_time()
    ends, _, _, left = run(schedule)
    rate = schedule.sizes.size / (time.process_time() - begin)
    assert left == 0
    assert int(ends.max()) == net.collective("all_reduce", 2**30, 1024).ticks
    what = "2.1 million messages, none folded, of a 1,024-rank ring"
    yield beside(what, rate / 1e6, "M messages/s", _ASTRA_SIM, 10, "equal to the closed form")
    state = new_state(mesh(8, 2, False), RouterSpec(), traffic("uniform", 64, 8, 2), 1, 0.2, 1)
    cycles = 20000 / cpu_s(lambda: advance(state, 20000, False, False), 3)
    peer = Peer("BookSim", None, "give its binary, make bench BOOKSIM=BINARY")
    if os.environ.get("BOOKSIM"):
        theirs = _booksim(os.environ["BOOKSIM"])
        peer = Peer("BookSim", theirs, f"{theirs:,.0f} in this run, process included")
    yield beside("routers, 8x8 mesh, 0.2 flits, uniform traffic", cycles, "cycles/s", peer, 10, "ours warm")


def _graphs() -> Iterator[Row]:
    """Whole questions on large graphs."""
    link = load_spec("ici_tpu_v4", LinkSpec, category="links")

    def flows() -> float:
        ways = Ways(cube((32, 32, 16), True, link), "dimension_order")
        paths = [ways.path(rank, (rank * 7919 + 13) % 16384) for rank in range(16384)]
        return float(Flows(ways.graph, paths).finish_s(1e6).max())

    def ring(side: int) -> float:
        case = {"op": "all_reduce", "bytes": "1GiB", "topology": f"torus:{side}x{side}", "link": "ici_tpu_v4"}
        return float(answer(case)["time_us"])

    how = "max-min fair, graph and ways included"
    yield below("16,384 flows on a torus of 32x32x16", cpu_s(flows, 3), 5, how, digits=2)
    how = "graph and ways included"
    yield below("ring over a torus of 32x32, 2.1 million messages", cpu_s(lambda: ring(32), 3), 1.5, how, digits=2)
    yield below("ring over a torus of 64x64, 33.5 million messages", cpu_s(lambda: ring(64), 1), 10, how, digits=2)
