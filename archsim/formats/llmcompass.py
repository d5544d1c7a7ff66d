"""LLMCompass: a system of devices (ISCA 2024; github PrincetonUniversity/LLMCompass, configs/*.json)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from archsim.formats import Converted, Keys, json_object

NAME = "LLMCompass"
_TECHNOLOGY = {"5nm": "n5", "7nm": "n7", "16nm": "n16", "28nm": "n28", "45nm": "n45"}
_STANDARD = {"HBM2E": "HBM2E", "HBM2": "HBM2", "HBM3": "HBM3", "DDR4": "DDR4", "DDR5": "DDR5", "GDDR6": "GDDR6"}


def fits(path: Path, head: str) -> bool:
    """A device with its compute chiplet."""
    return path.suffix == ".json" and '"compute_chiplet"' in head and '"device"' in head


def read(path: Path) -> Converted:
    """A system."""
    keys = Keys(json_object(path), path)
    device = keys.below("device")
    chiplet = device.below("compute_chiplet")
    core = chiplet.below("core")
    array, vector = core.below("systolic_array"), core.below("vector_unit")
    io, memory = device.below("io"), device.below("memory")
    chips = device.whole("compute_chiplet_count", 1)
    cores = chips * chiplet.whole("core_count")
    lanes = core.whole("sublane_count")
    hz = device.number("frequency_Hz", least=1)
    dtype = array.text("data_type", "fp16")
    protocol = device.text("memory_protocol", "HBM2e").upper()
    bytes_per_s = (
        io.whole("memory_channel_active_count")
        * io.whole("pin_count_per_channel")
        * io.number("bandwidth_per_pin_bit", least=1)
        / 8
    )
    node = chiplet.text("process_node", "7nm")
    notes = []
    if node not in _TECHNOLOGY:
        notes.append(f"technology n7 stands in for process_node '{node}'")
    if protocol not in _STANDARD:
        notes.append(f"HBM2E stands in for memory_protocol '{protocol}': it names the energy of a bit")
    notes.append(
        f"the core's {core.number('SRAM_KB'):g} KB of SRAM are not a tier of their own: tiles are laid in the global "
        "buffer; LLMCompass's area model is not carried over"
    )
    notes.append("kernel launch and calls of collectives: LLMCompass adds them per op; none here")
    chip: dict[str, Any] = {
        "name": f"{keys.text('name', path.stem)} device",
        "source": f"LLMCompass configuration {path.name}",
        "technology": _TECHNOLOGY.get(node, "n7"),
        "clock": f"{hz / 1e6:.9g} MHz",
        "engines": {
            "array": {
                "kind": "systolic_array",
                "rows": array.whole("array_height"),
                "columns": array.whole("array_width"),
                "count": cores * lanes,
                "dataflow": "ws",
                "dtypes": [dtype] if dtype != "fp16" else ["fp16", "bf16"],
            },
            "vector": {
                "kind": "vector_unit",
                "lanes": cores * lanes * vector.whole("vector_width"),
                "dtype": "fp32",
            },
        },
        "memories": {
            "global_buffer": {
                "kind": "sram",
                "capacity": f"{io.number('global_buffer_MB', least=1e-3):g} MiB",
                "bandwidth": f"{io.number('global_buffer_bandwidth_per_cycle_byte', least=1) * hz / 1e9:.9g} GB/s",
            },
            "memory": {
                "kind": "dram",
                "standard": _STANDARD.get(protocol, "HBM2E"),
                "capacity": f"{memory.number('total_capacity_GB', least=1e-3):g} GB",
                "bandwidth": f"{bytes_per_s / 1e9:.9g} GB/s",
                "efficiency": 1.0,
            },
        },
        "placement": {"weight": "memory", "kv": "memory"},
    }
    count = keys.whole("device_count", 1)
    system: dict[str, Any] = {"name": keys.text("name", path.stem), "chip": chip, "chips": count}
    if array.number("mac_per_cycle", 1) != 1:
        notes.append("mac_per_cycle other than 1 is not carried over")
    if count > 1:
        system["network"] = _network(keys.below("interconnect"), count)
    return Converted("system", system, tuple(notes))


def _network(interconnect: Keys, count: int) -> dict[str, Any]:
    """Links between so many devices, which share those of each."""
    link = interconnect.below("link")
    kind = interconnect.text("topology", "FC")
    links = interconnect.whole("link_count_per_device", 1)
    topology = {"FC": "fully_connected", "RING": "ring"}.get(kind)
    if topology is None:
        raise interconnect.error("topology", f"expected FC or RING, not '{kind}'")
    each = max(1, links // ((count - 1) if topology == "fully_connected" else 2))
    described = {
        "kind": "link",
        "bandwidth": f"{link.number('bandwidth_per_direction_byte', least=1) / 1e9:.9g} GB/s",
        "count": each,
        "latency": f"{round(link.number('latency_second') * 1e12)} ps",
        "payload": f"{link.whole('max_payload_size_byte', 256)} B",
        "overhead": f"{link.whole('header_size_byte', 16)} B",
        "energy": "5.5 pJ/bit",
        "area": "0 mm2",
        "source": "energy assumed: SerDes on a board; area not counted",
    }
    return {"kind": "network", "dimensions": [{"topology": topology, "ranks": count, "link": described}]}
