"""SCALE-Sim: topologies (convolutions, or products), and configurations of an array.

github scalesim-project/scale-sim-v2 and v3: ``-t topology.csv -c config.cfg``.
"""

from __future__ import annotations

import configparser
import re
from pathlib import Path

from archsim.errors import InputError, Problem
from archsim.files import read_cells, read_text
from archsim.formats import Converted, Keys

NAME = "SCALE-Sim"
_HEADER = re.compile(r"\s*layer(\s*name)?\s*,\s*(?P<first>ifmap height|m)\s*,", re.IGNORECASE)


def fits(path: Path, head: str) -> bool:
    """A topology's header, or a configuration's section."""
    if path.suffix == ".csv":
        return _HEADER.match(head) is not None
    return path.suffix == ".cfg" and "[architecture_presets]" in head


def read(path: Path) -> Converted:
    """A workload, or a chip."""
    return _topology(path) if path.suffix == ".csv" else _chip(path)


def _topology(path: Path) -> Converted:
    header, *rows = read_cells(path)
    names = [cell.strip().lower() for cell in header[1]]
    if names[1] != "m":
        note = "inputs are padded already; windows are counted as SCALE-Sim does, rounded up"
        return Converted("workload", {"kind": "convolutions", "topology": str(path), "dtype": "int8"}, (note,))
    columns = {name: number for number, name in enumerate(names)}
    missing = [name for name in ("m", "n", "k") if name not in columns]
    if missing:
        raise InputError([Problem(f"column '{missing[0].upper()}' is missing", str(path), header[0], 1)])
    gemms, seen = [], dict[str, int]()
    for line, cells in rows:
        try:
            m, n, k = (int(cells[columns[name]]) for name in ("m", "n", "k"))
        except (ValueError, IndexError):
            raise InputError([Problem("expected a name and whole numbers M, N, K", str(path), line, 1)]) from None
        seen[cells[0]] = seen.get(cells[0], 0) + 1
        name = cells[0] if seen[cells[0]] == 1 else f"{cells[0]} {seen[cells[0]]}"
        gemms.append({"name": name, "m": m, "k": k, "n": n})
    if not gemms:
        raise InputError([Problem("it holds no layers", str(path))])
    sparse = [name for name in names if "sparsity" in name]
    notes: tuple[str, ...] = ("SCALE-Sim's words are one byte: int8",)
    if sparse:
        notes += (f"column '{sparse[0]}' is not read: give the array's sparsity in the chip",)
    return Converted("workload", {"kind": "gemm", "dtype": "int8", "gemms": gemms}, notes)


def _chip(path: Path) -> Converted:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    try:
        parser.read_string(read_text(path), str(path))
    except configparser.Error as error:
        message = str(error).partition("\n")[0]
        line = getattr(error, "lineno", 0) or 0
        raise InputError([Problem(f"no valid configuration: {message}", str(path), line, min(line, 1))]) from None
    section = {name.lower(): value for name, value in parser["architecture_presets"].items()}
    keys = Keys(section, path, "architecture_presets.")
    dataflow = keys.text("dataflow").strip().lower()
    if dataflow not in ("os", "ws", "is"):
        raise keys.error("dataflow", f"expected os, ws or is, not '{dataflow}'")
    rows, columns = keys.whole("arrayheight"), keys.whole("arraywidth")
    kib = sum(keys.whole(f"{name}sramszkb") for name in ("ifmap", "filter", "ofmap"))
    width = keys.number("bandwidth", 1, 1e-9)
    calculated = parser.get("run_presets", "InterfaceBandwidth", fallback="CALC").strip().upper() == "CALC"
    name = parser.get("general", "run_name", fallback=path.stem).strip("\"' ") or path.stem
    notes = [
        "clock 1 GHz and technology n45 are assumed: the file has neither (SCALE-Sim counts cycles)",
        "the three SRAMs are one scratchpad of their size, as wide as the array needs",
        "no vector unit: SCALE-Sim computes products alone",
    ]
    if calculated:
        notes.append("InterfaceBandwidth CALC: the memory is as fast as the array needs, edges and results at once")
    chip = {
        "name": name,
        "source": f"SCALE-Sim configuration {path.name}; assumed: clock and technology, which it has not",
        "technology": "n45",
        "clock": "1 GHz",
        "engines": {
            "array": {
                "kind": "systolic_array",
                "rows": rows,
                "columns": columns,
                "dataflow": dataflow,
                "dtypes": ["int8"],
                "double_buffered_weights": False,
                "source": "folds do not overlap, as SCALE-Sim counts",
            }
        },
        "memories": {
            "sram": {
                "kind": "sram",
                "capacity": f"{kib} KiB",
                "banks": keys.whole("memorybanks", 1),
                "width_bits": 8 * (rows + columns) * 2,
                "source": "as wide as the array's edges: SCALE-Sim's arrays do not wait for their SRAM",
            },
            "dram": {
                "kind": "dram",
                "standard": "DDR4",
                "capacity": "64 GiB",
                "bandwidth": f"{rows + 2 * columns if calculated else width:g} GB/s",
                "efficiency": 1.0,
                "latency": "0 s",
                "source": "assumed: capacity and standard",
            },
        },
    }
    return Converted("chip", chip, tuple(notes))
