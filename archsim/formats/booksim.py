"""BookSim 2: a configuration of a network of routers, its traffic and load (github booksim/booksim2)."""

from __future__ import annotations

import re
from pathlib import Path

from archsim.formats import Converted, Keys
from archsim.formats.ini import assignments

NAME = "BookSim"
_ASSIGNED = re.compile(r"^\s*topology\s*=\s*\w+\s*;", re.MULTILINE)
_DEFAULTS = {
    "num_vcs": 16,
    "vc_buf_size": 8,
    "routing_delay": 1,
    "vc_alloc_delay": 1,
    "sw_alloc_delay": 1,
    "st_final_delay": 1,
    "credit_delay": 0,
}
"""What BookSim takes where a file says nothing (src/booksim_config.cpp)"""
_ROUTING = ("dim_order", "dor", "nca", "min", "dest_tag", "dor_no_express", "xy_yx_no_express", "ran_min", "xyyx")
"""Those that are modelled, each on its topologies"""
_PLAIN = {
    "input_speedup": "1",
    "output_speedup": "1",
    "wait_for_tail_credit": "0",
    "speculative": "0",
    "hold_switch_for_packet": "0",
    "noq": "0",
    "priority": "none",
    "subnets": "1",
    "injection_process": "bernoulli",
    "use_read_write": "0",
    "classes": "1",
}
"""Settings that are modelled at this value alone"""

_ALLOCATORS = re.compile(
    r"separable_(input|output)_first|select|loa|(rr_)?wavefront|max_size|(islip|pim)(\([1-9]\d?\))?"
)
"""Those that are modelled; rounds are said in brackets (alloc_iters changes nothing in BookSim's routers)"""


def fits(path: Path, head: str) -> bool:
    """A topology is assigned, with a semicolon."""
    return _ASSIGNED.search(head) is not None and "{" not in head[:200]


def read(path: Path) -> Converted:
    """A case of ``archsim collective``: routers flit by flit."""
    keys = Keys(assignments(path, r"//"), path)
    topology, k, n = keys.text("topology", "torus"), keys.whole("k", 8), keys.whole("n", 2)
    name, notes = _topology(keys, topology, k, n), []
    allocators = {}
    for key in ("vc_allocator", "sw_allocator"):
        allocators[key] = keys.text(key, "islip")
        if _ALLOCATORS.fullmatch(allocators[key]) is None:
            notes.append(f"{key} {allocators[key]} is not modelled: islip stands in, which near saturation differs")
            allocators[key] = "islip"
    for key, plain in _PLAIN.items():
        value = keys.values.get(key, plain)
        if value != plain:
            notes.append(f"{key} = {value} is not carried over: {plain} is modelled")
    for key in ("routing_delay", "vc_alloc_delay", "sw_alloc_delay"):
        if keys.whole(key, 1, 0) > 1:
            notes.append(f"{key} above 1: a router here takes so many cycles and no more, where BookSim's waits longer")
    routing = keys.text("routing_function", "none")
    size = keys.whole("packet_size", 1)
    rate = keys.number("injection_rate", 0.1)
    if keys.values.get("injection_rate_uses_flits", "0") == "0":
        rate *= size
    case = {
        "topology": name,
        "traffic": keys.text("traffic", "uniform"),
        **allocators,
        "injection_rate_flits_per_node_cycle": f"{rate:.12g}",
        "packet_size_flits": str(size),
        "seed": keys.values.get("seed", "0"),
        "sample_period": str(keys.whole("sample_period", 1000)),
        "speedup": f"{keys.number('internal_speedup', 1.0):g}",
        **{key: str(keys.whole(key, usual, 0)) for key, usual in _DEFAULTS.items()},
    }
    if routing in _ROUTING:
        case["routing"] = routing
    elif routing != "none":
        notes.append(f"routing_function {routing} is not carried over: the topology's own is taken")
    if topology == "anynet":
        case["network_file"] = str(path.parent / keys.text("network_file"))
    return Converted("case", case, tuple(notes), "collective")


def _topology(keys: Keys, topology: str, k: int, n: int) -> str:
    """The name of a topology as :mod:`router_level.cases` understands it.

    Raises
    ------
    InputError: it is not modelled.
    """
    c = keys.whole("c", 1)
    if topology in ("mesh", "torus") and c == 1:
        return f"{topology}{'x'.join([str(k)] * n)}"
    if topology in ("fattree", "fly"):
        return f"{topology}_k{k}n{n}"
    if topology == "dragonflynew" and n == 1:
        return f"dragonfly_p{k}a{2 * k}h{k}g{2 * k * k + 1}"
    side = keys.whole("xr", 1)
    square = [keys.whole("x", 8), keys.whole("y", 8), n, keys.whole("yr", 1), c] == [k, k, 2, side, side * side]
    if square and (topology == "flatfly" or (topology == "cmesh" and c == 4)):
        return f"{topology}_k{k}c{c}"
    if topology == "anynet":
        return topology
    known = (
        "mesh, torus, fattree, fly, anynet, dragonflynew of n = 1, and cmesh and flatfly of n = 2 with x = y = k and "
        "xr = yr, xr * yr = c (cmesh: 4) are"
    )
    raise keys.error("topology", f"'{topology}' with these sizes is not modelled: {known}")
