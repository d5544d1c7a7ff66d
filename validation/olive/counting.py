"""How the ANT simulator counts (github clevercool/ANT-Quantization bc84067, built on BitFusion's).

A product of ``rows`` x ``k`` x ``columns`` is tiled over batch, output pixels (both edges alike), input and
output channels in powers of two, in any order of the five tile loops; the pair of tiling and order with the
fewest cycles wins, then the one with the least energy. Facts of the counting that differ from hardware:

- no fill or drain of the array: a tile of an output-stationary array takes
  ``ceil(batch / (N pf)) * ceil(oc / (M pf)) * kh kw ic`` cycles, pf = floor(pmax / max(bits, pmin));
- a buffer's fill hides under computing except the first one, which is added whole; outputs count as reads of
  the output buffer and leave the chip in 16 bits, a tile of them may be larger than the buffer;
- a kernel is square with its height: 1 x 7 counts as 1 x 1;
- attention scores and contexts are not counted at all, weights only.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_OUT_BITS = 16
_BANDWIDTH = 1024  # bits a cycle
_SRAM_BITS = {"wgt": 131072 * 8, "act": 262144 * 8, "out": 131072 * 8}
_HZ = 500e6

# Energy in nJ. CACTI at 28 nm: 4 KiB and 8 KiB banks read 512 bits at a time, 128-byte banks 32 bits at a time.
_READ = {"wgt": 0.0168924 / 512, "act": 0.0177688 / 512, "out": 0.000294945 / 32}
_WRITE = {"wgt": 0.0203422 / 512, "act": 0.0248866 / 512, "out": 0.000415925 / 32}
_SRAM_LEAK = (2.96594 * 32 + 5.4983 * 32 + 0.127708 * 1024) * 1e6 / _HZ
# The search weighs DRAM with other figures than the breakdown reports.
_SEARCH_DRAM = (3838.05 / 500000, 1.18294 / 1024, 1.47797 / 1024)
_DRAM = (484.615 / 500, 0.644304 / 1024, 0.784104 / 1024)
_PE_LEAK = {8: 64314 / _HZ, 6: 28458 / _HZ}
_PE_DYNAMIC = {8: 279960 / _HZ, 6: 123882 / _HZ}

_DEPENDS = {"b": ("act", "out"), "ow": ("act", "out"), "oh": ("act", "out"), "ic": ("act", "wgt"), "oc": ("wgt", "out")}

Array = NDArray[np.float64]


class Design(NamedTuple):
    """An accelerator of the comparison, 500 MHz, 128/256/128 KiB of weight, activation and output SRAM."""

    rows: int
    columns: int
    most_bits: int = 8
    least_bits: int = 4
    weight_stationary: bool = False

    def factor(self, bits: int) -> int:
        """Narrow operands a PE takes in place of one of the widest."""
        return self.most_bits // max(bits, self.least_bits)


class Layer(NamedTuple):
    """A layer: ``batch`` images of ``edge`` x ``edge`` outputs, ``ic`` to ``oc`` channels, kernel x kernel."""

    batch: int
    ic: int
    kernel: int
    edge: int
    oc: int


@dataclass(frozen=True)
class Cost:
    """Cycles and energies (nJ) of layers."""

    cycles: float = 0.0
    static: float = 0.0
    dram: float = 0.0
    buffer: float = 0.0
    core: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))

    def times(self, count: int) -> Cost:
        """The same layer ``count`` times."""
        return Cost(*(count * value for value in vars(self).values()))

    @property
    def energy(self) -> float:
        """Energy, nJ."""
        return self.static + self.dram + self.buffer + self.core


def _ceil(a: Array, b: float | Array) -> Array:
    return np.ceil(a / b)


def _halvings(size: int) -> list[int]:
    return sorted({min(1 << i, size) for i in range(math.ceil(math.log2(size)) + 1)}) if size > 1 else [1]


@functools.cache
def cost(design: Design, layer: Layer, bits: int) -> Cost:
    """Cycles and energy of a layer whose operands have ``bits`` bits on both sides."""
    sizes = np.array(
        np.meshgrid(_halvings(layer.batch), _halvings(layer.edge), _halvings(layer.ic), _halvings(layer.oc)), float
    ).reshape(4, -1)
    b, o, ic, oc = sizes
    pf = design.factor(bits)
    k2 = layer.kernel**2
    wide, deep = design.rows * pf, design.columns * pf
    weights = _ceil(k2 * ic, wide) * wide * oc * bits
    inputs = o * o * _ceil(k2 * ic, deep) * deep * b * bits
    fits = (weights <= _SRAM_BITS["wgt"] / 2) & (inputs <= _SRAM_BITS["act"] / 2)
    b, o, ic, oc, weights, inputs = (part[fits] for part in (b, o, ic, oc, weights, inputs))
    tiles = {
        "b": _ceil(np.full_like(b, layer.batch), b),
        "ow": _ceil(np.full_like(o, layer.edge), o),
        "ic": _ceil(np.full_like(ic, layer.ic), ic),
        "oc": _ceil(np.full_like(oc, layer.oc), oc),
    }
    tiles["oh"] = tiles["ow"]
    number = tiles["b"] * tiles["ow"] ** 2 * tiles["ic"] * tiles["oc"]
    if design.weight_stationary:
        compute = number * b * o * o * _ceil(oc, deep) * _ceil(k2 * ic, wide)
    else:
        compute = number * _ceil(b * o * o, wide) * _ceil(oc, deep) * k2 * ic
    base = {"wgt": weights, "act": inputs, "out": o * o * oc * b * _OUT_BITS}
    products = number * k2 * ic * oc * b * o * o
    outputs = number * o * o * oc * b
    if design.weight_stationary:
        reads = {"act": products * bits, "out": products * _OUT_BITS, "wgt": number * k2 * ic * oc * bits}
        out_writes = products * _OUT_BITS
    else:
        reads = {"act": products * bits, "out": outputs * _OUT_BITS, "wgt": products * bits}
        out_writes = outputs * _OUT_BITS

    # Tilings that compute for longer than the best of the quickest takes in all cannot win.
    order = np.argsort(compute, kind="stable")
    best: tuple[float, float, Cost] | None = None
    for part in (order[:128], order[128:]):
        keep = part if best is None else part[compute[part] <= best[0]]
        if keep.size:
            found = _cheapest(
                design,
                {name: t[keep] for name, t in tiles.items()},
                {name: t[keep] for name, t in base.items()},
                {name: t[keep] for name, t in reads.items()},
                out_writes[keep],
                compute[keep],
            )
            best = found if best is None or found[:2] < best[:2] else best
    if best is None:
        raise ValueError(f"no tile of {layer} fits the buffers")
    return best[2]


def _cheapest(
    design: Design,
    tiles: Mapping[str, Array],
    base: Mapping[str, Array],
    reads: Mapping[str, Array],
    out_writes: Array,
    compute: Array,
) -> tuple[float, float, Cost]:
    pes = design.rows * design.columns
    leak, dynamic = pes * _PE_LEAK[design.most_bits], pes * _PE_DYNAMIC[design.most_bits]
    best: tuple[float, float, Cost] | None = None
    # Both edges of the output are tiled alike, so their order among themselves changes nothing.
    for loops in (o for o in permutations(_DEPENDS) if o.index("ow") < o.index("oh")):
        moved, first = {}, {}
        for name in ("wgt", "act", "out"):
            moved[name], first[name] = _promoted(name, loops[::-1], tiles, base[name])
        dram_reads, dram_writes = moved["wgt"] + moved["act"], moved["out"]
        start = first["wgt"] + first["act"]
        latency = _ceil(start, _BANDWIDTH) + _ceil(first["out"], _BANDWIDTH)
        middle = _ceil(dram_reads + dram_writes - start - first["out"], _BANDWIDTH)
        cycles = compute + np.maximum(0, middle - compute) + latency
        buffers = reads["wgt"] * _READ["wgt"] + reads["act"] * _READ["act"]
        buffers = buffers + (reads["out"] + moved["out"]) * _READ["out"] + out_writes * _WRITE["out"]
        buffers = buffers + moved["wgt"] * _WRITE["wgt"] + moved["act"] * _WRITE["act"]
        core = cycles * leak + compute * dynamic
        weighed = core + buffers + cycles * (_SRAM_LEAK + _SEARCH_DRAM[0])
        weighed = weighed + dram_reads * _SEARCH_DRAM[1] + dram_writes * _SEARCH_DRAM[2]
        least = int(np.lexsort((weighed, cycles))[0])
        if best is None or (cycles[least], weighed[least]) < best[:2]:
            best = (
                float(cycles[least]),
                float(weighed[least]),
                Cost(
                    float(cycles[least]),
                    float(cycles[least] * _DRAM[0]),
                    float(dram_reads[least] * _DRAM[1] + dram_writes[least] * _DRAM[2]),
                    float(buffers[least]),
                    float(core[least]),
                ),
            )
    if best is None:
        raise ValueError("there is no order of the loops")
    return best


def _promoted(name: str, loops: tuple[str, ...], tiles: Mapping[str, Array], base: Array) -> tuple[Array, Array]:
    """Bits moved of an operand, loops from inside out, and those of them before computing starts.

    While the tiles of a loop fit half the buffer they are moved once, whatever loops outside do not index them.
    """
    moved, first, kept = base.copy(), base.copy(), np.ones(base.shape, bool)
    for loop in loops:
        if name in _DEPENDS[loop]:
            moved = moved * tiles[loop]
            kept &= moved <= _SRAM_BITS[name] / 2
            # Outputs that fit are not counted at the start or the end.
            first = np.where(kept, moved if name != "out" else 0.0, first)
        else:
            moved = np.where(kept, moved, moved * tiles[loop])
    return moved, first
