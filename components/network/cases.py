"""Cases in rows: what to ask a network, as cells of a table. The columns say who is asked:

- ``implementation`` (with ``npus_per_dim``, ``bandwidth_GiBps``, ...): a run of ASTRA-sim, in its accounting;
- ``injection_rate_flits_per_node_cycle``: traffic on a router network, flit by flit;
- ``system`` or ``device``, ``nranks`` or ``num_gpus``: NCCL on measured machines; by protocol alone with ``host_us``;
- ``num_topk`` (with ``op_name``, ``node_num``, ``hidden_size``, ``num_token``): DeepEP's dispatch and combine;
- ``op``, ``bytes``, ``ranks``, ``topology``: a collective on archsim's own network model. With several dimensions,
  innermost first, topology, ranks, link and algorithm are lists like ``switch/ring`` and ``8/4``. A topology with a
  colon (``torus:4x4x4``) or a file is a graph, where ``algorithm`` may be a Chakra trace (``NAME.0.et``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsim.components.network.accounting_astra_sim import AstraSim, AstraSimSpec
from archsim.components.network.algorithm import USUAL, Algorithm, algorithm, check, custom
from archsim.components.network.expert_parallel import DIRECTIONS, ExpertParallel, ExpertParallelSpec
from archsim.components.network.gpu_library import GpuLibrariesSpec, interconnect_of, library_name
from archsim.components.network.gpu_library import time as library_time
from archsim.components.network.graph import Graph, Ways, named
from archsim.components.network.link import LinkSpec
from archsim.components.network.nccl import GPUS, Nccl, NcclSpec, bus_bandwidth
from archsim.components.network.network import Network, NetworkSpec
from archsim.components.network.router_level import LOAD
from archsim.components.network.topology import SWITCH, DimensionSpec
from archsim.config import load_spec
from archsim.errors import InputError, nearest, shortened, wrong
from archsim.files import is_file
from archsim.formats import ENDINGS, head_of, of_a_peer
from archsim.timebase import Timebase
from archsim.units import BYTES, parse, whole
from archsim.workloads.chakra_trace import TRACE_FILE, read

if TYPE_CHECKING:
    from archsim.components.network.graph_simulation import Played
    from archsim.components.network.message_simulation import Outcome

ALIASES = {"alltoall": "all_to_all", "sendrecv": "send_recv", "all-reduce": "all_reduce", "allreduce": "all_reduce"}
_ASTRA_TOPOLOGY = {"Ring": "ring", "Switch": "switch", "FullyConnected": "fully_connected"}
_DEGRADED = re.compile(
    r"((?P<dimension>\d{1,3}):)?(?P<source>\d{1,7}|switch)-(?P<target>\d{1,7}|switch)=(?P<share>\d{0,9}(\.\d{1,9})?)"
)
_MOST_BYTES = 2**50
_CLOSED = ("ring", "direct")
_LEVELS = ("message", "flow")
_FILES = (".yml", ".yaml", *ENDINGS)
"""Endings that files of a network have"""
_DIMENSION = ("algorithm", "directions", "pieces", "switch_latency", "overhead", "forwarding", "switch_reduces")

BUS_FACTOR: dict[str, Callable[[int], float]] = {
    "all_reduce": lambda n: 2 * (n - 1) / n,
    "all_gather": lambda n: (n - 1) / n,
    "reduce_scatter": lambda n: (n - 1) / n,
    "all_to_all": lambda n: (n - 1) / n,
    "broadcast": lambda n: 1.0,
    "send_recv": lambda n: 1.0,
}
"""What nccl-tests multiplies bytes over time by, so that the result compares with a link's bandwidth."""


def answer(case: Mapping[str, str]) -> dict[str, Any]:
    """The answer's own cells for a row of any kind.

    Raises
    ------
    InputError: a cell is missing or means nothing.
    """
    if is_trace(case) and case.get("settings"):
        return {"cycles_ns_max": _astra_sim_trace(case)}
    case = described(case)
    if case.get(LOAD):
        from archsim.components.network.router_level import cases as router_network

        return router_network.answer(case)
    if case.get("implementation"):
        return {"cycles_ns_max": astra_sim_cycles(case)}
    if case.get("num_topk"):
        return _expert_parallel(case)
    if case.get("nranks") or case.get("num_gpus"):
        return _nccl(case)
    return _collective(case)


def _astra_sim_trace(case: Mapping[str, str]) -> int:
    """Cycles (ns) of a trace on ASTRA-sim's network by its system file."""
    from archsim.components.network.astra_sim_trace import cycles

    settings = Path(case["settings"])
    found = of_a_peer(settings, head_of(settings)) if is_file(settings) else None
    if found is None or found.question != "collective" or "topology" in found.document:
        raise wrong("settings", f"'{shortened(settings)}' is no system file of ASTRA-sim")
    network = Path(_cell(case, "topology"))
    if not is_file(network):
        raise wrong("topology", f"expected ASTRA-sim's file of a network, not '{shortened(network)}'")
    return cycles(read(case["algorithm"]), network, found.document, astra_sim_cycles)


def described(case: Mapping[str, str]) -> Mapping[str, str]:
    """A row whose topology is a file of BookSim or ASTRA-sim says what the file does; its own cells go before."""
    named = case.get("topology", "")
    path = Path(named)
    if named.endswith(ENDINGS) and not is_file(path):
        raise wrong("topology", f"there is no file '{shortened(named)}'")
    found = of_a_peer(path, head_of(path)) if named.endswith(_FILES) and is_file(path) else None
    if found is None:
        return case
    own = {key: cell for key, cell in case.items() if cell and key not in ("topology", "link")}
    if found.what == "case" and found.question == "collective" and LOAD in found.document:
        return {**found.document, **own}
    if found.what != "network":
        raise wrong("topology", f"'{shortened(named)}' is a {found.what}, no network")
    dimensions = found.document["dimensions"]
    columns = {
        "topology": [one["topology"] for one in dimensions],
        "ranks": [str(one["ranks"]) for one in dimensions],
        "bandwidth": [one["link"]["bandwidth"] for one in dimensions],
        "latency": [one["link"]["latency"] for one in dimensions],
    }
    return {**{name: "/".join(cells) for name, cells in columns.items()}, **own}


def astra_sim_cycles(case: Mapping[str, str]) -> int:
    """Cycles (ns) of a run, in ASTRA-sim's accounting and by its names."""
    parts = []
    for name in ("topology", "npus_per_dim", "bandwidth_GiBps", "latency_ns"):
        cell = _cell(case, name)
        parts.append((cell.replace("x", "/") if name == "npus_per_dim" else cell).split("/"))
    if len({len(part) for part in parts}) != 1:
        raise InputError("topology, npus_per_dim, bandwidth_GiBps and latency_ns are lists of one length")
    dimensions = []
    for topology, ranks, bandwidth, latency in zip(*parts, strict=True):
        if topology not in _ASTRA_TOPOLOGY:
            raise wrong("topology", f"ASTRA-sim has no '{topology}': {nearest(topology, _ASTRA_TOPOLOGY)}")
        link = {"kind": "link", "bandwidth": f"{bandwidth} GiB/s", "latency": f"{latency} ns"}
        dimensions.append(
            _valid(
                DimensionSpec,
                {"topology": _ASTRA_TOPOLOGY[topology], "ranks": _whole(ranks, "npus_per_dim"), "link": link},
            )
        )
    settings: dict[str, Any] = {
        name: _whole(case[column], column)
        for column, name in (
            ("preferred_dataset_splits", "splits"),
            ("active_chunks_per_dim", "active_chunks"),
            ("num_queues_per_dim", "queues"),
            ("endpoint_delay_ns", "endpoint_delay_ns"),
        )
        if case.get(column)
    }
    settings |= {
        name: case[column]
        for column, name in (("collective_optimization", "optimization"), ("backend", "congestion"))
        if case.get(column)
    }
    if case.get("local_mem_bw_GBps"):
        settings["local_memory_bandwidth"] = f"{case['local_mem_bw_GBps']} GB/s"
    model = AstraSim(_valid(AstraSimSpec, settings), dimensions, case["implementation"].split("/"))
    return model.cycles(_cell(case, "collective"), _whole(_cell(case, "comm_size_bytes"), "comm_size_bytes"))


def _collective(case: Mapping[str, str]) -> dict[str, Any]:
    """A collective on archsim's model: time, bandwidths as nccl-tests prints them, and what limits."""
    if is_graph(case) or is_trace(case):
        return on_graph(case)[0]
    op, n_bytes = _op_and_bytes(case)
    steps = _steps(case, op)
    network = _network(case, played=steps is not None)
    answers: dict[str, Any] = {}
    slow = _slow_links(case, network)
    if steps is not None:
        if steps.ranks != network.ranks:
            raise wrong("ranks", f"algorithm '{steps.name}' is of {steps.ranks} ranks, the network of {network.ranks}")
        seconds, bound, moved = _played(network, network.simulate_algorithm(steps, n_bytes, links=slow))
    elif slow:
        seconds, bound, moved = _played(network, network.simulate(op, n_bytes, network.ranks, links=slow))
    else:
        timing = network.collective(op, n_bytes, network.ranks)
        seconds, bound = network.time.seconds(int(timing.ticks)), timing.bound_by
        moved = sum(int(count) for action, count in timing.actions.items() if action.startswith("link"))
    if case.get("check"):
        check(steps or _proof(network, op))
        answers["check"] = "every rank ends with its data"
    return answers | {
        "time_us": seconds * 1e6,
        "algbw_GBps": n_bytes / seconds / 1e9 if seconds else 0.0,
        "busbw_GBps": BUS_FACTOR[op](network.ranks) * n_bytes / seconds / 1e9 if seconds else 0.0,
        "bound_by": bound,
        "link_bytes": moved,
    }


def _played(network: Network, outcome: Outcome) -> tuple[float, str, int]:
    """Seconds, the busiest link and bytes moved of messages that were played."""
    index, source, target = max(outcome.link_ticks, key=lambda name: outcome.link_ticks[name])
    ends = " to ".join("switch" if end == SWITCH else str(end) for end in (source, target))
    bound = f"{network.spec.dimensions[index].topology} {index} link {ends}"
    return network.time.seconds(max(outcome.ticks)), bound, sum(outcome.link_bytes.values())


def _degraded(case: Mapping[str, str]) -> dict[tuple[int, int, int], float]:
    """Links that keep a share of their bandwidth, written ``0-1=0.5,1:8-switch=0.25``: the dimension may come first."""
    found = {}
    for text in case["degraded"].split(",") if case.get("degraded") else ():
        written = _DEGRADED.fullmatch(text.strip())
        if not written:
            raise wrong("degraded", f"expected links like 0-1=0.5 or 1:0-switch=0.5, not '{text}'")
        source, target = (SWITCH if end == "switch" else int(end) for end in written.group("source", "target"))
        share = float(written["share"] or 0)
        if not 0 < share <= 1:
            raise wrong("degraded", f"a link keeps a share above 0 and up to 1 of its bandwidth, not {share:g}")
        found[int(written["dimension"] or 0), source, target] = share
    return found


def _slow_links(case: Mapping[str, str], network: Network) -> dict[tuple[int, int, int], LinkSpec]:
    """The degraded links of a network of dimensions, each checked to be one of them."""
    found = {}
    for (index, source, target), share in _degraded(case).items():
        if index >= len(network.spec.dimensions) or not network.has_link((index, source, target)):
            raise wrong("degraded", f"dimension {index} has no link from {source} to {target}".replace("-1", "switch"))
        link = network.spec.dimensions[index].link
        found[index, source, target] = link.model_copy(update={"efficiency": link.efficiency * share})
    return found


def _op_and_bytes(case: Mapping[str, str]) -> tuple[str, int]:
    op, text = _cell(case, "op"), _cell(case, "bytes")
    op = ALIASES.get(op, op)
    if op not in BUS_FACTOR:
        raise wrong("op", f"no collective is called '{shortened(op)}': {nearest(op, BUS_FACTOR)}")
    n_bytes = _whole(text, "bytes") if text.isdecimal() else int(parse(text, BYTES))
    if n_bytes > _MOST_BYTES:
        raise wrong("bytes", f"at most {_MOST_BYTES:,} are moved, not '{shortened(text)}'")
    return op, n_bytes


def is_graph(case: Mapping[str, str]) -> bool:
    """Whether a row's topology is a graph: ``torus:4x4x4``, ``fattree:64x16x8``, or a file."""
    topology = case.get("topology", "")
    return ":" in topology or topology.endswith((".yaml", ".yml", ".json"))


def on_graph(case: Mapping[str, str]) -> tuple[dict[str, Any], Graph, list[float]]:
    """A collective on a graph: its answers, the graph, and how busy each edge is.

    Columns beside op, bytes, topology and link: ``routing``, ``algorithm``, and ``level``, message or flow.
    """
    from archsim.components.network.graph_simulation import Job, flow_s, simulate

    if is_trace(case):
        return _traced(case)
    op, n_bytes = _op_and_bytes(case)
    ways = _ways(case)
    graph = ways.graph
    name = case.get("algorithm") or USUAL.get(op, "direct")
    steps = _steps({**case, "algorithm": name}, op) or algorithm(name, op, graph.ranks)
    answers: dict[str, Any] = {}
    if case.get("check"):
        check(steps)
        answers["check"] = "every rank ends with its data"
    job, level = Job(steps, range(steps.ranks), n_bytes), case.get("level") or "message"
    if level not in _LEVELS:
        raise wrong("level", f"expected {' or '.join(_LEVELS)}, not '{level}'")
    busy = [0.0] * len(graph.edges)
    if level == "message":
        time = Timebase()
        played = simulate(ways, [job], time)
        seconds = time.seconds(played.ticks[0])
        busy, more = _busy(graph, played)
        answers |= more
    else:
        seconds = flow_s(ways, job)
    answers |= {
        "time_us": seconds * 1e6,
        "algbw_GBps": n_bytes / seconds / 1e9 if seconds else 0.0,
        "busbw_GBps": BUS_FACTOR[op](graph.ranks) * n_bytes / seconds / 1e9 if seconds else 0.0,
    }
    return answers, graph, busy


def is_trace(case: Mapping[str, str]) -> bool:
    """Whether a row's algorithm is one rank's file of a Chakra trace, such as ``ring.0.et`` or ``ring.0.json``."""
    return TRACE_FILE.fullmatch(case.get("algorithm", "")) is not None


def _traced(case: Mapping[str, str]) -> tuple[dict[str, Any], Graph, list[float]]:
    """A Chakra trace on a graph; its sends say how many bytes they carry."""
    from archsim.components.network import chakra

    ways, trace = _ways(case), read(_cell(case, "algorithm"))
    answers: dict[str, Any] = {}
    if case.get("check"):
        op = _cell(case, "op")
        op = ALIASES.get(op, op)
        if op not in BUS_FACTOR:
            raise wrong("op", f"no collective is called '{shortened(op)}': {nearest(op, BUS_FACTOR)}")
        chakra.check(trace, op)
        answers["check"] = "every rank hears from all whose data it needs"
    time = Timebase()
    played = chakra.simulate(ways, trace, time)
    busy, more = _busy(ways.graph, played)
    messages = sum(node.kind == "COMM_SEND_NODE" for node in trace.nodes)
    answers |= more | {"messages": messages, "time_us": time.seconds(played.ticks[0]) * 1e6}
    return answers, ways.graph, busy


def _ways(case: Mapping[str, str]) -> Ways:
    """The graph of a row and how its messages go."""
    if not is_graph(case):
        raise wrong("topology", "expected a graph, such as switch:8 or torus:4x4, or a file")
    link: dict[str, Any] = {"extends": f"links/{case['link']}"} if case.get("link") else {"kind": "link"}
    link |= {name: case[name] for name in ("bandwidth", "latency") if case.get(name)}
    graph = named(_cell(case, "topology"), load_spec(link, LinkSpec))
    if case.get("ranks") and case["ranks"] != str(graph.ranks):
        raise wrong("ranks", f"'{graph.name}' has {graph.ranks}, not {case['ranks']}")
    graph = graph.degraded({(source, target): share for (_, source, target), share in _degraded(case).items()})
    return Ways(graph, case.get("routing") or "shortest")  # type: ignore[arg-type]


def _busy(graph: Graph, played: Played) -> tuple[list[float], dict[str, Any]]:
    """How busy each edge was, and the busiest one."""
    busy = [ticks / (max(played.ticks) or 1) for ticks in played.edge_ticks]
    worst = max(range(len(busy)), key=lambda number: busy[number])
    named = f"{graph.edges[worst].source} to {graph.edges[worst].target}"
    return busy, {"busiest_link": named, "busiest_link_busy": busy[worst]}


def _steps(case: Mapping[str, str], op: str) -> Algorithm | None:
    """The algorithm of a row, where it is a file or none that the closed form knows."""
    name = case.get("algorithm") or ""
    if name.endswith((".yaml", ".yml", ".json", *ENDINGS)):
        steps = custom(name)
        if steps.op != op:
            raise wrong("op", f"algorithm '{steps.name}' is of {steps.op}, not of {op}")
        return steps
    if not name or name in (*_CLOSED, "in_switch") or "/" in name:
        return None
    sizes = [_whole(size, "ranks") for size in _cell(case, "ranks").replace("x", "/").split("/")]
    return algorithm(name, op, math.prod(sizes), sizes[0])


def _proof(network: Network, op: str) -> Algorithm:
    """The steps that the closed form times, of one dimension, or of several the all-reduce that goes out and back."""
    first = network.spec.dimensions[0]
    if len(network.spec.dimensions) == 1:
        return algorithm(first.algorithm_of(op), op, network.ranks)
    return algorithm("hierarchical", op, network.ranks, first.ranks)


def _network(case: Mapping[str, str], played: bool) -> Network:
    """The network of a row's topology, ranks and links; without its algorithm where steps are played."""
    topologies, ranks = _cell(case, "topology").split("/"), _cell(case, "ranks").replace("x", "/").split("/")
    lists: dict[str, list[str]] = {"topology": topologies, "ranks": ranks}
    for name in ("link", "bandwidth", "latency", *_DIMENSION):
        if case.get(name) and not (played and name == "algorithm"):
            lists[name] = case[name].split("/") if name != "bandwidth" else case[name].replace("/s", "\0").split("/")
    dimensions = []
    for index in range(len(topologies)):
        cells = {}
        for name, values in lists.items():
            if len(values) not in (1, len(topologies)):
                raise wrong(name, f"expected {len(topologies)} entries, one for each dimension, not {len(values)}")
            cells[name] = values[index if len(values) > 1 else 0].replace("\0", "/s")
        if cells.get("algorithm") == "in_switch":
            del cells["algorithm"]
            cells = _in_switch(case, cells)
        link: dict[str, Any] = {"extends": f"links/{cells.pop('link')}"} if "link" in cells else {"kind": "link"}
        link |= {name: cells.pop(name) for name in ("bandwidth", "latency") if name in cells}
        if "extends" not in link and not {"bandwidth", "latency"} <= set(link):
            raise wrong("link", "name a shipped link, or give its bandwidth and latency")
        whole = ("ranks", "directions", "pieces")
        dimensions.append(
            {**{name: _whole(v, name) if name in whole else v for name, v in cells.items()}, "link": link}
        )
    spec = load_spec({"kind": "network", "dimensions": dimensions, "launch": case.get("launch") or "0 s"}, NetworkSpec)
    return Network(spec, "network", Timebase())


def _in_switch(case: Mapping[str, str], cells: Mapping[str, str]) -> dict[str, str]:
    """The cells of a dimension whose switch sums; in chunks of each rank as large as NCCL's largest unless said."""
    op, n_bytes = _op_and_bytes(case)
    ranks = _whole(cells["ranks"], "ranks")
    algorithm("in_switch", op, ranks)
    if cells["topology"] != "switch":
        raise wrong("algorithm", f"a {cells['topology']} has no switch that sums")
    chunk = load_spec("collectives/nccl", NcclSpec, category="collectives").nvls_chunk
    return {"pieces": str(max(1, n_bytes // (ranks * chunk))), **cells, "switch_reduces": "true"}


def _cell(case: Mapping[str, str], name: str) -> str:
    if not case.get(name):
        raise wrong(name, "is missing")
    return case[name]


def _whole(text: str, name: str) -> int:
    try:
        return whole(text)
    except InputError as error:
        raise wrong(name, str(error)) from None


def _valid(spec: type[Any], data: dict[str, Any]) -> Any:
    return load_spec(data, spec)


def _nccl(case: Mapping[str, str]) -> dict[str, Any]:
    """A measured collective of NCCL: ``system`` or ``device``, ``collective`` or ``op``, ranks and bytes.

    A row that NCCL's model does not reach (several nodes, another library) is left without a time and says why.
    """
    system = (case.get("system") or case.get("device") or "").casefold()
    name = case.get("collective") or case.get("op") or ""
    name = ALIASES.get(name, name)
    ranks = _whole(case.get("nranks") or case.get("num_gpus") or "", "nranks")
    n_bytes = case.get("bytes") or case.get("message_bytes") or ""
    gpu = next((gpu for gpu in GPUS if gpu in system), None)
    libraries = _shipped("gpu_libraries", GpuLibrariesSpec)
    if "deepep" in name.casefold():
        asked = "op_name, node_num, num_token, hidden_size and num_topk"
        return {"error": f"an exchange of experts is asked for by {asked}, which this row does not have"}
    if not n_bytes:
        return {"error": "bytes is missing"}
    total = _whole(n_bytes.removesuffix(".0"), "bytes")
    if several := re.match(r"\d+x8(?=x| )", system):
        return _of_library(libraries, several[0], case, name, total, ranks)
    if interconnect_of(libraries, system) is not None:
        return _of_library(libraries, system, case, name, total, ranks)
    why = ""
    if gpu is None or re.match(r"\d+ nodes", system) or "pcie" in system or "pair" in system:
        known = sorted(name for interconnect in libraries.interconnects.values() for name in interconnect.gpus)
        why = f"no interconnect of '{system}' is known: {nearest(system, known)}"
    elif name in ("all_to_all", "send_recv"):
        return _of_library(libraries, f"{gpu}_sxm", case, name, total, ranks)
    elif name not in ("all_reduce", "all_gather", "reduce_scatter"):
        why = f"'{name}' is not modelled by protocol"
    if why or gpu is None:
        return {"error": why}
    architecture, links = GPUS[gpu]
    nccl = Nccl(
        _shipped("nccl", NcclSpec),
        architecture,
        load_spec(f"links/{links}", LinkSpec, category="links"),
    )
    found = nccl.time(name, total, ranks)
    chosen = {"algorithm": found.algorithm, "protocol": found.protocol}
    if not case.get("host_us") and interconnect_of(libraries, f"{gpu}_sxm") is not None:
        # As long as on the measured machines of this GPU, whose harness is in it.
        return _of_library(libraries, f"{gpu}_sxm", case, name, total, ranks) | chosen
    seconds = found.seconds + float(case.get("host_us") or 0.0) * 1e-6
    return {
        "time_us": seconds * 1e6,
        "busbw_GBps": bus_bandwidth(name, total, ranks, seconds) / 1e9,
        **chosen,
    }


@lru_cache
def _shipped(name: str, spec: type[Any]) -> Any:
    """A shipped config of collectives, read once for all rows."""
    return load_spec(f"collectives/{name}", spec, category="collectives")


def _of_library(
    spec: GpuLibrariesSpec, device: str, case: Mapping[str, str], name: str, n_bytes: int, ranks: int
) -> dict[str, Any]:
    """A collective of a GPU library, ``impl`` (NCCL where none is named), with its band."""
    library = library_name(case.get("impl") or "nccl")
    found = library_time(
        spec, device, library, name, n_bytes, ranks, whole_numbers=case.get("dtype", "").startswith("int")
    )
    seconds = found.seconds
    return {
        "time_us": seconds * 1e6,
        "time_low_us": found.low_s * 1e6,
        "time_high_us": found.high_s * 1e6,
        "busbw_GBps": BUS_FACTOR[name](ranks) * n_bytes / seconds / 1e9,
        "algorithm": found.way,
        "library": found.library,
    }


def _expert_parallel(case: Mapping[str, str]) -> dict[str, Any]:
    """Dispatch and combine of experts: ``op_name`` ll or normal, the latter with its ``dispatch_sms``."""
    gpu = (case.get("gpu") or case.get("device") or "").casefold()
    blackwell = gpu.startswith(("b200", "b300", "gb200", "gb300"))
    spec = _shipped("deepep_blackwell" if blackwell else "deepep", ExpertParallelSpec)
    tokens, hidden, top_k = (
        _whole(_cell(case, name).removesuffix(".0"), name) for name in ("num_token", "hidden_size", "num_topk")
    )
    exchange = ExpertParallel(spec, _whole((case.get("node_num") or "1").removesuffix(".0"), "node_num"))
    kernel = case.get("op_name") or "ll"
    if kernel == "ll":
        dispatch, combine = (exchange.low_latency(way, tokens, hidden, top_k) for way in DIRECTIONS)
        return {"dispatch_avg_t_us": dispatch * 1e6, "combine_avg_t_us": combine * 1e6}
    if kernel != "normal":
        raise wrong("op_name", f"no kernels of DeepEP are called '{kernel}': {nearest(kernel, ('ll', 'normal'))}")
    sms = _whole((case.get("dispatch_sms") or "20").removesuffix(".0"), "dispatch_sms")
    dispatch, combine = (exchange.normal(way, tokens, hidden, top_k, sms) for way in DIRECTIONS)
    return {"dispatch_transmit_us": dispatch * 1e6, "combine_transmit_us": combine * 1e6}
