"""Cases in rows: what to ask a router network, as cells of a table.

A row names a ``topology`` (``mesh8x8``, ``torus4x4x4``, ``fattree_k4n3``, ``fly_k4n3``, ``dragonfly_p2a4h2g9``,
``cmesh_k4c4``, ``flatfly_k4c4``, or ``anynet`` with a ``network_file``), a
``traffic`` and the flits that a node makes in a cycle; the other columns of :data:`SETTINGS` have the defaults of the
specs, and ``vc_allocator`` and ``sw_allocator`` say who allocates, by BookSim's names.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from typing import Any

from archsim.components.network.router_level import LOAD
from archsim.components.network.router_level.concentrated import concentrated_mesh, flattened_butterfly
from archsim.components.network.router_level.fabric import Fabric, cube, dragonfly, fat_tree, fly
from archsim.components.network.router_level.listed import read_network
from archsim.components.network.router_level.measurement import MeasurementSpec, measure
from archsim.components.network.router_level.state import RouterSpec, allocator
from archsim.components.network.router_level.traffic import traffic
from archsim.config import load_spec
from archsim.errors import InputError, nearest, shortened, wrong
from archsim.files import at_home
from archsim.units import whole

SETTINGS = {
    "num_vcs": "virtual_channels",
    "vc_buf_size": "buffer_flits",
    "routing_delay": "routing_delay",
    "vc_alloc_delay": "vc_allocation_delay",
    "sw_alloc_delay": "switch_allocation_delay",
    "st_final_delay": "switch_delay",
    "credit_delay": "credit_delay",
}
_ROUTING = {
    "mesh": ("dor", "dim_order"),
    "torus": ("dim_order", "dor"),
    "fattree": ("nca",),
    "fly": ("dest_tag",),
    "dragonfly": ("min",),
    "cmesh": ("dor", "dor_no_express", "xy_yx_no_express"),
    "flatfly": ("ran_min", "xyyx"),
    "anynet": ("min",),
}
_MOST_NODES = 2**16
_ALLOCATORS = {"vc_allocator": "vc_allocator", "sw_allocator": "switch_allocator"}


def answer(case: Mapping[str, str]) -> dict[str, Any]:
    """The figures of a row: status, latencies in cycles, accepted flits of a node in a cycle, routers on the way.

    Raises
    ------
    InputError: a cell is missing or names nothing that can be simulated.
    """
    name = case.get("topology", "")
    kind = re.match(r"[a-z]*", name).group()  # type: ignore[union-attr]
    routing = case.get("routing") or _ROUTING.get(kind, ("",))[0]
    if routing not in _ROUTING.get(kind, (routing,)):
        raise wrong("routing", f"a {kind} is routed by {' or '.join(_ROUTING[kind])}, not '{shortened(routing)}'")
    if name == "anynet":
        if not case.get("network_file"):
            raise wrong("network_file", "it is missing: the file that lists the routers")
        fabric, radix, dimensions = read_network(at_home(case["network_file"])), 0, 1
        _bounded(fabric.nodes)
    else:
        fabric, radix, dimensions = _fabric(name, routing)
    settings: dict[str, Any] = {ours: _whole(case, name, 0) for name, ours in SETTINGS.items() if case.get(name)}
    for name, ours in _ALLOCATORS.items():
        if case.get(name):
            try:
                allocator(case[name])
            except ValueError as error:
                raise wrong(name, str(error)) from None
            settings[ours] = case[name]
    if case.get("speedup"):
        settings["speedup"] = _number(case, "speedup")
    router = load_spec(settings, RouterSpec)
    how = load_spec(
        {"sample_period": _whole(case, "sample_period")} if case.get("sample_period") else {}, MeasurementSpec
    )
    measured = measure(
        fabric,
        router,
        traffic(case.get("traffic") or "uniform", fabric.nodes, radix, dimensions),
        _number(case, LOAD),
        _whole(case, "packet_size_flits") if case.get("packet_size_flits") else 1,
        _whole(case, "seed", 0) if case.get("seed") else 1,
        how,
    )
    return {
        "status": "ok" if measured.stable else "unstable",
        "pkt_latency_avg": measured.packet_latency,
        "network_latency_avg": measured.network_latency,
        "flit_latency_avg": measured.flit_latency,
        "pkt_latency_max": measured.packet_latency_max,
        "accepted_flit_rate": measured.accepted,
        "hops_avg": measured.hops,
        "sim_cycles": measured.cycles,
    }


@functools.lru_cache(maxsize=16)
def _fabric(name: str, routing: str) -> tuple[Fabric, int, int]:
    """The fabric of a name, and the digits of its nodes' numbers: radix and how many."""
    if match := re.fullmatch(r"(mesh|torus)(\d{1,6})((?:x\2){0,15})", name):
        dimensions = 1 + match[3].count("x")
        _bounded(int(match[2]) ** dimensions)
        return cube(int(match[2]), dimensions, match[1] == "torus"), int(match[2]), dimensions
    if match := re.fullmatch(r"fattree_k(\d{1,4})n(\d{1,2})", name):
        _bounded(int(match[1]) ** int(match[2]))
        return fat_tree(int(match[1]), int(match[2])), int(match[1]), int(match[2])
    if match := re.fullmatch(r"fly_k(\d{1,4})n(\d{1,2})", name):
        _bounded(int(match[1]) ** int(match[2]))
        return fly(int(match[1]), int(match[2])), int(match[1]), int(match[2])
    if match := re.fullmatch(r"dragonfly_p(\d{1,4})a(\d{1,6})h(\d{1,6})g(\d{1,9})", name):
        p, a, h, g = (int(n) for n in match.groups())
        if (a, h, g) != (2 * p, p, 2 * p * p + 1):
            raise wrong("topology", f"a balanced dragonfly of p={p} is dragonfly_p{p}a{2 * p}h{p}g{2 * p * p + 1}")
        _bounded(p * a * g)
        return dragonfly(p), p, 1
    if match := re.fullmatch(r"cmesh_k(\d{1,4})c4", name):
        _bounded(4 * int(match[1]) ** 2)
        return concentrated_mesh(int(match[1]), routing), 2 * int(match[1]), 2
    if match := re.fullmatch(r"flatfly_k(\d{1,4})c(\d{1,4})", name):
        k, c = int(match[1]), int(match[2])
        _bounded(c * k**2)
        return flattened_butterfly(k, c, routing), math.isqrt(c) * k, 2
    kinds = ("anynet", "cmesh_k4c4", "flatfly_k4c4", "mesh8x8", "torus8x8", "fattree_k4n3", "fly_k4n3")
    raise wrong("topology", f"no router network is called '{shortened(name)}': {nearest(name, kinds)}")


def _bounded(nodes: int) -> None:
    if nodes > _MOST_NODES:
        raise wrong("topology", f"{nodes:,} nodes are more than the {_MOST_NODES:,} that are played flit by flit")


def _number(case: Mapping[str, str], name: str) -> float:
    try:
        value = float(case.get(name, ""))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise wrong(name, f"expected a number, not '{shortened(case.get(name, ''))}'")
    return value


def _whole(case: Mapping[str, str], name: str, least: int = 1) -> int:
    try:
        return whole(case.get(name, ""), least, 2**30)
    except InputError as error:
        raise wrong(name, str(error)) from None
