"""ASTRA-sim 2: files of its analytical network, of its system layer, and of its remote memory.

github astra-sim/astra-sim 518bd513. Its bandwidths say GB/s and are counted as GiB/s.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from archsim.errors import shortened
from archsim.formats import Converted, Keys, json_object, yaml_value

NAME = "ASTRA-sim"
TOPOLOGIES = {"Ring": "ring", "Switch": "switch", "FullyConnected": "fully_connected"}
OPS = {
    "all_reduce": "all-reduce",
    "all_gather": "all-gather",
    "reduce_scatter": "reduce-scatter",
    "all_to_all": "all-to-all",
}
"""Our names of collectives to those of its keys"""


def fits(path: Path, head: str) -> bool:
    """NPUs of a topology, or settings of its system layer."""
    if path.suffix in (".yml", ".yaml"):
        return all(re.search(rf"^{key}:", head, re.MULTILINE) for key in ("topology", "npus_count"))
    return path.suffix == ".json" and ('"preferred-dataset-splits"' in head or '"all-reduce-implementation"' in head)


def read(path: Path) -> Converted:
    """A network, or the settings of a case."""
    return _settings(path) if path.suffix == ".json" else _network(path)


def dimensions(path: Path) -> list[tuple[str, int, float, float]]:
    """Of each dimension, innermost first: ASTRA-sim's topology, NPUs, GiB/s of a link, and its latency in ns.

    Raises
    ------
    InputError: it is no network, or its lists differ in length.
    """
    keys = Keys(yaml_value(path), path)
    lists = {}
    for name in ("topology", "npus_count", "bandwidth", "latency"):
        value = keys.values.get(name)
        if not isinstance(value, list) or not value:
            raise keys.error(name, "it is missing" if value is None else "expected a list, one entry a dimension")
        lists[name] = value
    if len({len(value) for value in lists.values()}) != 1:
        raise keys.error("npus_count", "topology, npus_count, bandwidth and latency are lists of one length")
    found = []
    for number in range(len(lists["topology"])):
        one = Keys({name: value[number] for name, value in lists.items()}, path)
        topology = one.text("topology")
        if topology not in TOPOLOGIES:
            raise one.error("topology", f"expected {', '.join(TOPOLOGIES)}, not '{shortened(topology)}'")
        found.append((topology, one.whole("npus_count"), one.number("bandwidth", least=1e-9), one.number("latency")))
    return found


def _network(path: Path) -> Converted:
    made: list[dict[str, Any]] = [
        {
            "topology": TOPOLOGIES[topology],
            "ranks": npus,
            "link": {
                "kind": "link",
                "bandwidth": f"{bandwidth:.12g} GiB/s",
                "latency": f"{round(latency * 1000)} ps",
                "energy": "5.5 pJ/bit",
                "area": "0 mm2",
                "source": "energy assumed: SerDes on a board; area not counted",
            },
        }
        for topology, npus, bandwidth, latency in dimensions(path)
    ]
    notes = (
        "bandwidths are counted in GiB/s, as ASTRA-sim does",
        "collectives take archsim's own model of this network; ASTRA-sim's cycles: archsim collective --algorithm "
        "TRACE.0.et --topology this file --settings its system file",
        "energy of a link is assumed",
    )
    return Converted("network", {"kind": "network", "dimensions": made}, notes)


SETTINGS = {
    "preferred-dataset-splits": "preferred_dataset_splits",
    "active-chunks-per-dimension": "active_chunks_per_dim",
    "endpoint-delay": "endpoint_delay_ns",
    "local-mem-bw": "local_mem_bw_GBps",
    "collective-optimization": "collective_optimization",
}
_IGNORED = ("boost-mode", "track-local-mem", "local-mem-trace-filename", "trace-enabled", "replay-only")


def _settings(path: Path) -> Converted:
    """The columns of a case as ASTRA-sim counts; those of each collective's implementation by its name."""
    found = json_object(path)
    keys = Keys(found, path)
    case: dict[str, Any] = {}
    for theirs, ours in SETTINGS.items():
        if theirs == "collective-optimization":
            if theirs in found:
                case[ours] = keys.text(theirs)
        elif theirs in found:
            number = keys.number(theirs)
            case[ours] = f"{number:.12g}"
    notes = []
    for op, name in OPS.items():
        if f"{name}-implementation-custom" in found:
            notes.append(f"{name}-implementation-custom: ask archsim collective --algorithm {op}.0.et for its steps")
        value = found.get(f"{name}-implementation")
        if value is not None:
            if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
                raise keys.error(f"{name}-implementation", "expected a list of names")
            case[f"implementation {op}"] = "/".join(value)
    if found.get("scheduling-policy", "LIFO") not in ("LIFO", "FIFO"):
        raise keys.error("scheduling-policy", f"expected LIFO or FIFO, not '{shortened(found['scheduling-policy'])}'")
    if found.get("roofline-enabled"):
        case["peak_tflops"] = f"{keys.number('peak-perf', least=1e-9):.12g}"
    known = {*SETTINGS, *_IGNORED, "scheduling-policy", "roofline-enabled", "peak-perf"}
    known |= {f"{name}-implementation{end}" for name in OPS.values() for end in ("", "-custom")}
    notes += [f"{key} is not carried over" for key in sorted(set(found) - known)]
    return Converted("case", case, tuple(notes), "collective")
