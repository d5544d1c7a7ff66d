"""Timeloop and Accelergy: an architecture of arrays and buffers (v0.4 nodes, or v0.3 subtrees)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from archsim.errors import InputError, Problem, shortened
from archsim.files import read_text
from archsim.formats import Converted

NAME = "Timeloop / Accelergy"
_NODES = {"45nm": "n45", "28nm": "n28", "16nm": "n16", "7nm": "n7", "5nm": "n5"}
_RANGE = re.compile(r"(?P<name>.*)\[(?P<first>\d+)\.\.(?P<last>\d+)\]$")


def fits(path: Path, head: str) -> bool:
    """An architecture at the top, and its nodes or subtrees."""
    return (
        path.suffix in (".yaml", ".yml")
        and re.search(r"^architecture:", head, re.MULTILINE) is not None
        and re.search(r"^\s+(nodes|subtree):", head, re.MULTILINE) is not None
    )


class _Loader(yaml.SafeLoader):
    """Takes a tag (!Container, !Component, !Parallel) as a key of the mapping that it stands before."""


def _tagged(loader: yaml.SafeLoader, tag: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return {"!": tag, **loader.construct_mapping(node, deep=True)}
    return loader.construct_sequence(node, deep=True) if isinstance(node, yaml.SequenceNode) else None


_Loader.add_multi_constructor("!", _tagged)


def read(path: Path) -> Converted:
    """A chip."""
    try:
        loaded = yaml.load(read_text(path), Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        raise InputError([Problem(f"no valid YAML: {shortened(error)}", str(path), *place)]) from None
    found = _Found(path)
    top = loaded["architecture"]
    try:
        if "nodes" in top:
            found.nodes(top["nodes"])
        else:
            found.subtrees(top["subtree"], 1)
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise InputError([Problem(f"no architecture of Timeloop: {shortened(repr(error))}", str(path))]) from None
    return found.chip()


class _Found:
    """Storage from the outside in, and how often what follows is there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.x = self.y = 1
        self.fanout = 1
        self.storage: list[tuple[str, str, Mapping[str, Any], int]] = []
        self.mac: tuple[str, Mapping[str, Any], int] | None = None
        self.technology = ""

    def nodes(self, nodes: list[Any]) -> None:
        """The nodes of v0.4, each below the one before."""
        for node in nodes:
            if node.get("!", "").strip("!") in ("Parallel", "Pipelined", "Nothing") or "nodes" in node:
                for child in node.get("nodes", ()):
                    if "class" in child:
                        self._component(child, self.fanout * self._mesh(child, keep=False))
                continue
            each = self._mesh(node, keep=True)
            self.fanout *= each
            self.technology = str(node.get("attributes", {}).get("technology", self.technology))
            if "class" in node:
                self._component(node, self.fanout)

    def _mesh(self, node: Mapping[str, Any], keep: bool) -> int:
        spatial = node.get("spatial") or {}
        x, y = int(spatial.get("meshX", 1)), int(spatial.get("meshY", 1))
        if keep:
            self.x, self.y = self.x * x, self.y * y
        return x * y

    def subtrees(self, trees: list[Any], times: int) -> None:
        """The subtrees of v0.3; ``name[0..167]`` is there 168 times."""
        for tree in trees:
            _, each = _counted(str(tree.get("name", "")))
            self.technology = str((tree.get("attributes") or {}).get("technology", self.technology))
            for local in tree.get("local", ()):
                called, count = _counted(str(local["name"]))
                attributes = local.get("attributes") or {}
                if "meshX" in attributes and count * each * times > 1:
                    self.x = max(self.x, int(attributes["meshX"]))
                self._component({**local, "name": called}, times * each * count)
            self.subtrees(tree.get("subtree", ()), times * each)

    def _component(self, node: Mapping[str, Any], times: int) -> None:
        kind, attributes = str(node["class"]).lower(), node.get("attributes") or {}
        entry = (str(node["name"]), kind, attributes, times)
        if "mac" in kind or kind in ("compute", "intmultiplier"):
            self.mac = (entry[0], attributes, times)
        elif "network" not in kind and not kind.startswith(("xy_", "noc")):
            self.storage.append(entry)

    def chip(self) -> Converted:
        """What was found, as a chip."""
        if self.mac is None:
            raise InputError([Problem("has no component of a class of MACs (intmac, fpmac, compute)", str(self.path))])
        _, attributes, count = self.mac
        columns = self.x if count % self.x == 0 else 1
        rows = count // columns
        if columns == 1 and count > 1:
            columns = next(c for c in range(math.isqrt(count), 0, -1) if count % c == 0)
            rows = count // columns
        bits = int(attributes.get("multiplier_width", attributes.get("datawidth", attributes.get("width", 16))))
        dtype = "int4" if bits <= 4 else "int8" if bits <= 8 else "int16"
        near = self.technology.replace(" ", "")
        notes = [
            "clock 1 GHz is assumed: Timeloop counts cycles",
            "constraints of the mapping are not carried over: archsim's mapper chooses among ws, os and is",
        ]
        if near not in _NODES:
            notes.append(f"technology n45 stands in for '{near or 'none given'}'")
        memories: dict[str, Any] = {}
        for name, kind, memory, times in self.storage:
            if "dram" in kind:
                continue
            if times > 1:
                notes.append(f"'{name}' in each of {times} PEs is a register of the array, not a memory of its own")
                continue
            memories[name] = self._sram(name, memory)
        drams = [(name, memory) for name, kind, memory, _ in self.storage if "dram" in kind]
        if not memories:
            notes.append("no buffer outside the array: a scratchpad of 64 KiB is assumed")
            memories["buffer"] = {"kind": "sram", "capacity": "64 KiB", "width_bits": 16 * bits, "source": "assumed"}
        for name, memory in drams[:1] or [("dram", {})]:
            memories[name] = self._dram(memory, notes)
        chip = {
            "name": self.path.stem if self.path.stem != "arch" else self.path.parent.name,
            "source": f"Timeloop architecture {self.path.name}",
            "technology": _NODES.get(near, "n45"),
            "clock": "1 GHz",
            "engines": {
                "array": {
                    "kind": "systolic_array",
                    "rows": rows,
                    "columns": columns,
                    "dataflow": ["ws", "os", "is"],
                    "dtypes": [dtype],
                },
            },
            "memories": memories,
        }
        return Converted("chip", chip, tuple(notes))

    def _sram(self, name: str, memory: Mapping[str, Any]) -> dict[str, Any]:
        width, word = int(memory.get("width", 64)), int(memory.get("datawidth", memory.get("word-bits", 8)))
        if "depth" in memory:
            capacity = int(memory["depth"]) * width // 8
        elif "sizeKB" in memory:
            capacity = int(memory["sizeKB"]) * 1024
        elif "entries" in memory:
            capacity = int(memory["entries"]) * word // 8
        else:
            raise InputError([Problem(f"'{name}' has no depth: its capacity is not known", str(self.path))])
        found: dict[str, Any] = {"kind": "sram", "capacity": f"{max(1, capacity)} B"}
        ways = int(memory.get("read_bandwidth", 0))
        banks = int(memory.get("n_banks", 1))
        return found | ({"banks": 1, "width_bits": ways * word} if ways else {"banks": banks, "width_bits": width})

    def _dram(self, memory: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
        kind, width = str(memory.get("type", "LPDDR4")).strip("\"'"), int(memory.get("width", 64))
        notes.append(f"DRAM moves its width of {width} bits a cycle; capacity 16 GiB is assumed")
        return {
            "kind": "dram",
            "standard": kind,
            "capacity": "16 GiB",
            "bandwidth": f"{width / 8:g} GB/s",
            "efficiency": 1.0,
            "latency": "0 s",
        }


def _counted(name: str) -> tuple[str, int]:
    match = _RANGE.match(name)
    return (match["name"], int(match["last"]) - int(match["first"]) + 1) if match else (name, 1)
