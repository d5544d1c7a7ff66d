"""A network asked alone: collectives, exchanges of experts, traffic on routers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from archsim.alone.question import Case, Column, Figures, Output, Question
from archsim.errors import InputError, Problem

_LINK = "nvlink4"


def answers(cases: Sequence[Case]) -> list[Figures]:
    """Figures of what a network is asked."""
    from archsim.components.network.cases import answer

    return [answer(_linked(case)) for case in cases]


def _linked(case: Case) -> Case:
    """The case with the link that is usual where a topology names none."""
    named = "topology" in case and not {"link", "bandwidth"} & {name for name, value in case.items() if value}
    return {**case, "link": _LINK} if named else case


def _drawn(case: Case, outputs: Mapping[str, Path]) -> Figures:
    """The answer of a collective on a graph, whose links are drawn as busy as they were."""
    from archsim.components.network.cases import is_graph, on_graph
    from archsim.files import write_text
    from archsim.report import network

    if not is_graph(case):
        raise InputError([Problem("draws one collective on a graph, such as --topology torus:4x4", "--picture")])
    figures, graph, busy = on_graph(_linked(case))
    edges = [(edge.source, edge.target) for edge in graph.edges]
    what = f"{case['op']} of {case['bytes']}" if "bytes" in case else Path(case["algorithm"]).name
    title = f"{what} on {graph.name}"
    write_text(outputs["picture"], network.picture(title, graph.ranks, graph.vertices, edges, busy, graph.shape))
    return figures


_ABOUT = """Ask a network alone: a collective, or traffic on routers.

    \b
    archsim collective --op all_reduce --bytes 1GiB --ranks 64 --topology ring --link nvlink4
    archsim collective --op all_reduce --bytes 1GiB --ranks 8/4 --topology switch/ring --link nvlink4/infiniband_ndr
    archsim collective --op all_reduce --bytes 64MB --ranks 16 --topology switch --algorithm double_binary_tree --check
    archsim collective --op all_reduce --bytes 64MB --ranks 4 --topology switch --algorithm my_steps.yaml
    archsim collective --op all_to_all --bytes 1MB --topology torus:8x8 --routing dimension_order --picture torus.svg
    archsim collective --algorithm my_trace.0.json --topology torus:2 --link nvlink4 --check --op all_reduce
    archsim collective --algorithm all_reduce.0.json --topology astra_network.yml --settings astra_system.json
    archsim collective --op all_reduce --bytes 1GiB --ranks 1024 --topology ring --degraded 0-1=0.5
    archsim collective --op all_reduce --bytes 1MB --topology my_network.yaml --routing ecmp
    archsim collective --topology mesh8x8 --traffic transpose --load 0.1
    archsim collective --cases collective_cases.csv --out answers.csv

    The columns of a file say who is asked: op, bytes, ranks, topology the model of the hardware; backend, collective,
    comm_size_bytes, npus_per_dim, implementation, ... the model as ASTRA-sim counts; system (or device), collective,
    nranks, bytes NCCL by its protocols; op_name, node_num, hidden_size, num_token, num_topk DeepEP's exchange of
    experts; traffic and injection_rate_flits_per_node_cycle, num_vcs, ... routers, flit by flit, as BookSim's.
"""

QUESTION = Question(
    name="collective",
    about=_ABOUT,
    columns=(
        Column("op", "all_reduce, all_gather, reduce_scatter, all_to_all, ..."),
        Column("bytes", "Bytes of each rank: 1GiB, 64MB, 4096."),
        Column("ranks", "Ranks; of each dimension, innermost first: 8/4."),
        Column("topology", "ring, switch, switch/ring, torus:4x4x4, a file, ...", kind="named"),
        Column("link", "Shipped link (archsim list links); nvlink4 if absent."),
        Column("bandwidth", "Of a link, instead: '100 GB/s'."),
        Column("latency", "Of a link, instead: '500 ns'."),
        Column("algorithm", "ring, direct, halving_doubling, ..., or a file of steps or of a trace.", kind="named"),
        Column("settings", "ASTRA-sim's system file: a trace counted as ASTRA-sim does.", kind="named"),
        Column("check", "Prove that every rank ends with its data.", kind="yes"),
        Column("routing", "On a graph: shortest, dimension_order, ecmp or adaptive."),
        Column("level", "On a graph: message or flow."),
        Column("degraded", "Links that keep a share of their bandwidth: 0-1=0.5, 1:8-switch=0.5."),
        Column("traffic", "On routers: uniform, transpose, tornado, ..."),
        Column("injection_rate_flits_per_node_cycle", "On routers: flits that a node makes in a cycle.", "--load"),
    ),
    answers=answers,
    figures=(
        "time_us",
        "time_low_us",
        "time_high_us",
        "library",
        "algbw_GBps",
        "busbw_GBps",
        "bound_by",
        "link_bytes",
        "busiest_link",
        "busiest_link_busy",
        "messages",
        "cycles_ns_max",
        "status",
        "pkt_latency_avg",
        "dispatch_avg_t_us",
        "combine_avg_t_us",
    ),
    outputs=(Output("picture", "FILE.svg", "The graph with its busy links."),),
    written=_drawn,
    compiled=lambda options: not options or "traffic" in options or ":" in options.get("topology", ""),
)
