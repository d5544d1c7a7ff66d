"""BookSim 2 (``iq`` routers): latency, throughput and length of whole runs, to the six digits that it prints.

Same routers, same random numbers, so every packet takes the same way in the same cycles. BookSim reads
``hotspot({0,9,54,63})`` as one hot spot, node 0, at rate 9: the outer braces are its list of parameters.

The runs of ``allocators_and_fabrics.csv`` are of BookSim 2 at the same commit, built with its Makefile (g++ 12) and
run once each on a configuration of what the row says; what it prints as overall statistics is the row's. The network of
``anynet`` is ``four_routers.net``.
"""

from __future__ import annotations

from archsim.components.network.cases import answer
from archsim.components.network.router_level import LOAD
from archsim.validation.framework import FOLDER, Row, cases, compared, to_digits

_SOURCE = "BookSim 2, sources as of commit 28f4329"
_FIGURES = (
    ("pkt_latency_avg", "cycle"),
    ("network_latency_avg", "cycle"),
    ("flit_latency_avg", "cycle"),
    ("pkt_latency_max", "cycle"),
    ("accepted_flit_rate", "flit/cycle"),
    ("hops_avg", "router"),
    ("sim_cycles", "cycle"),
)


def rows() -> list[Row]:
    """Every run: whether the load is stable, and its figures where it is."""
    answers: list[Row] = []
    listed = str(FOLDER / "booksim" / "four_routers.net")
    for case in [*cases("booksim"), *cases("booksim", "allocators_and_fabrics.csv")]:
        found = answer({**case, "network_file": listed} if case["topology"] == "anynet" else case)
        name = (
            f"{case['topology']} {case['traffic']} {case[LOAD]} flits, packets of {case['packet_size_flits']}, "
            f"{case['num_vcs']} VCs of {case['vc_buf_size']}"
        )
        if case["vc_allocator"] != "separable_input_first":
            name += f", {case['routing']}, {case['vc_allocator']} and {case['sw_allocator']}"
        figures = [("stable", "1", float(case["status"] == "ok"), float(found["status"] == "ok"))]
        figures += [
            (metric, unit, float(case[metric]), to_digits(float(found[metric] or 0), 6))
            for metric, unit in _FIGURES
            if case[metric]
        ]
        answers += compared("booksim", name, _SOURCE, figures)
    return answers
