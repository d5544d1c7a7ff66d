"""Latency against load of BookSim's networks and ours: lines are archsim's, dots BookSim's runs.

``python -m archsim.validation.booksim.picture > docs/router_latency.svg``
"""

from __future__ import annotations

from archsim.components.network.cases import answer
from archsim.components.network.router_level import LOAD
from archsim.report.curves import Series, picture
from archsim.validation.framework import cases


def main() -> None:
    """Print the SVG: one-flit packets, stable loads."""
    runs = [case for case in cases("booksim") if case["packet_size_flits"] == "1" and "hotspot" not in case["traffic"]]
    runs = [case for case in runs if case["status"] == "ok" and case["speedup"] == "1.0"]
    series = []
    for topology, traffic in dict.fromkeys((case["topology"], case["traffic"]) for case in runs):
        mine = [case for case in runs if (case["topology"], case["traffic"]) == (topology, traffic)]
        if len(mine) < 3:
            continue
        name = f"{topology.partition('_')[0]} {traffic}"
        ours = [(float(case[LOAD]), float(answer(case)["pkt_latency_avg"])) for case in mine]
        theirs = [(float(case[LOAD]), float(case["pkt_latency_avg"])) for case in mine]
        series += [Series(name, ours), Series(name, theirs, measured=True)]
    print(
        picture(
            "Latency of packets against load",
            "lines: archsim; dots: BookSim 2, the same to the last printed digit",
            ("flits that a node makes in a cycle", "mean latency, cycles"),
            series,
            (False, True),
        ),
        end="",
    )


if __name__ == "__main__":
    main()
