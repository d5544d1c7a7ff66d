"""The bit-weight notation of tensor engines (HPCA 2025): four loops, where each is unrolled, and how sums are kept.

An INT8 product [M, K] x [K, N] has a fourth loop: the bit weight BW, the radix-4 digits of one operand. A
*description* says of each loop how far it is unrolled in space and how its operands get there, whether the rest runs
in time inside the array or *outside* of it, in which form sums are kept, and where the encoder stands. Cycles and
parts follow.

======================  ==========================================================================================
OPT1                    BW stays inside the PE; sums in carry-save form, the carry-propagate adder moves outside
OPT2                    BW outermost in space: partial products of equal weight over K go through one tree
OPT3                    BW in time: one nonzero digit a cycle; a PE shrinks to a multiplexer and a 3:2 compressor
OPT4C                   OPT3, the encoder outside the PEs: one for a column of N
OPT4E                   OPT4C with K unrolled over ``lanes`` digits that one compressor takes together
======================  ==========================================================================================

Structure, widths and register counts are those of the RTL (github wqzustc/High-Performance-Tensor-Processing-Engines
ebe4db7); OPT4E and the 2D matrix have no RTL there and follow the paper's description. Synthesis moves registers
into the multipliers at tight clocks, which a count of parts cannot see.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import prod
from typing import Literal

from archsim.components.compute.encoders import mean_cycles_per_operand, mean_nonzero_digits
from archsim.components.compute.systolic_array import array_cycles
from archsim.workloads.dims import Dim, ceil_div, ceil_scaled

LoopName = Literal["M", "N", "K", "BW"]
Place = Literal["spatial", "temporal", "outside"]
Transport = Literal["skewed", "broadcast"]
Reduction = Literal["carry_save", "carry_propagate"]
Encoder = Literal["none", "pe", "row", "outside"]

_OPERAND = 8  # bits
_PLANES = 4  # radix-4 digits of an operand
_PRODUCT = 2 * _OPERAND
_PARTIAL = 10  # bits of a partial product with its sign
SCAN_LOAD = 3
"""cycles beyond K to load a serial operand (RTL)"""


@dataclass(frozen=True)
class Loop:
    """One loop of the product.

    Attributes
    ----------
    name: M, N, K or BW.
    place: spatial (unrolled over ``extent`` units, in time beyond), temporal, or outside of the array.
    extent: units in space; 1 unless spatial.
    transport: how a spatial loop's operands move: from unit to unit, a cycle each, or to all at once.
    """

    name: LoopName
    place: Place
    extent: int = 1
    transport: Transport = "broadcast"

    def __post_init__(self) -> None:
        if self.extent < 1 or (self.place != "spatial" and self.extent != 1):
            raise ValueError(f"loop {self.name} is {self.place} and cannot have {self.extent} units")


@dataclass(frozen=True)
class Parts:
    """What an engine is made of.

    Attributes
    ----------
    registers: flip-flops without reset. reset_registers: flip-flops with an asynchronous reset.
    encoders: digit encoders of one operand each. selectors: multiplexers that make one partial product each.
    compressor_bits: full-adder bits of compressors. adder_bits: bits of carry-propagate adders.
    """

    registers: int
    reset_registers: int
    encoders: int
    selectors: int
    compressor_bits: int
    adder_bits: int

    def flip_flops(self) -> int:
        """All flip-flops."""
        return self.registers + self.reset_registers


@dataclass(frozen=True)
class Description:
    """An engine in the notation.

    Attributes
    ----------
    name: as in the paper, such as ``OPT1 systolic OS``.
    loops: M, N, K and BW, one each.
    reduction: form in which a PE keeps its sum.
    encoder: where digits are made: in no place (a plain multiplier), in each PE, once a row, or outside.
    skips_zeros: zero digits take no cycle; BW is then temporal.
    accumulator_bits: width of a sum; of each word of a carry-save pair.
    depth: pipeline registers from the last operand to the result beyond the skew.
    stationary: the operand (or sum) that stays in a skewed array: output or weight.
    """

    name: str
    loops: tuple[Loop, Loop, Loop, Loop]
    reduction: Reduction
    encoder: Encoder
    accumulator_bits: int
    depth: int = 1
    skips_zeros: bool = False
    stationary: Literal["output", "weight", "none"] = "none"

    def __post_init__(self) -> None:
        if sorted(loop.name for loop in self.loops) != ["BW", "K", "M", "N"]:
            raise ValueError(f"'{self.name}' needs the loops M, N, K and BW, once each")
        if self.skips_zeros and self.loop("BW").place != "temporal":
            raise ValueError(f"'{self.name}' can skip zero digits only where BW runs in time")

    def loop(self, name: LoopName) -> Loop:
        """The loop of that name."""
        return next(loop for loop in self.loops if loop.name == name)

    def units(self) -> int:
        """PEs: products of the spatial extents of M, N and K."""
        return prod(self.loop(name).extent for name in ("M", "N", "K"))

    def cycles(self, m: Dim, k: Dim, n: Dim, groups: Dim = 1, sigma: float = 30.0) -> Dim:
        """Cycles from the first operand to the last result; digits drawn from N(0, sigma) where they count.

        The loops in time run one step a cycle; a skewed loop adds its extent less one once, folds of a
        systolic array overlap as those of :mod:`systolic_array`.
        """
        M, N, K = (self.loop(name) for name in ("M", "N", "K"))
        if self.stationary == "output":
            return array_cycles("os", m, k, n, M.extent, N.extent, groups=groups) + self.depth
        if self.stationary == "weight":
            return array_cycles("ws", m, k, n, K.extent, N.extent, groups=groups) + self.depth
        if self.skips_zeros:
            mean = self.digit_cycles(sigma)
            vectors = groups * m * ceil_div(n, N.extent)
            scan = ceil_scaled(vectors * k, mean / K.extent)
            return scan + vectors * (k + SCAN_LOAD + self.depth) + 1
        steps = groups * ceil_div(m, M.extent) * ceil_div(k, K.extent) * ceil_div(n, N.extent)
        skew = sum(loop.extent - 1 for loop in (M, N, K) if loop.transport == "skewed")
        return steps + skew + self.depth

    def digit_cycles(self, sigma: float) -> Fraction:
        """Mean cycles of an operand on a lane of a serial engine."""
        lanes = self.loop("K").extent
        if lanes == 1:
            return mean_cycles_per_operand(sigma)
        # With K unrolled the queues of the lanes even out; a lane still takes a cycle for each of its digits.
        return Fraction(max(1.0, mean_nonzero_digits(sigma))).limit_denominator(10**6)

    def parts(self) -> Parts:
        """Registers, encoders, selectors, compressors and adders, as the RTL instantiates them."""
        if self.skips_zeros:
            return self._serial_parts()
        if self.loop("BW").place == "spatial":
            return self._tree_parts()
        width, units = self.accumulator_bits, self.units()
        alone = units == 1  # the PE by itself does not reset its operands, and has no borders
        moving = 2 * _OPERAND * units + (0 if alone else _OPERAND * self._border_operands())
        if self.reduction == "carry_save":
            # Four partial products and the pair of the sum: six words, four levels of full adders.
            return Parts(2 * width * units, moving, units, _PLANES * units, 4 * width * units, 0)
        # A multiplier (two levels of full adders and an adder), then the accumulator's adder.
        return Parts(
            registers=moving if alone else 0,
            reset_registers=width * units + (0 if alone else moving),
            encoders=units,
            selectors=_PLANES * units,
            compressor_bits=2 * _PRODUCT * units,
            adder_bits=(_PRODUCT + width) * units,
        )

    def _border_operands(self) -> int:
        """Operands held in registers before the first PEs."""
        M, N, K = (self.loop(name).extent for name in ("M", "N", "K"))
        if self.stationary == "weight":
            return 2 * K
        return M + N if K == 1 else K * (M + N)

    def _serial_parts(self) -> Parts:
        # A PE: two bits of digit, the operand, a carry-save sum, a 3:2 compressor; further lanes of K share the
        # sum, one more word each. An encoder: digits, their positions (15 bits with reset) and the one chosen.
        columns, lanes, width = self.loop("N").extent, self.loop("K").extent, self.accumulator_bits
        encoders = lanes if self.encoder == "row" else lanes * columns
        return Parts(
            registers=2 * width * columns + 2 * encoders,
            reset_registers=(2 + _OPERAND) * lanes * columns + 15 * encoders,
            encoders=encoders,
            selectors=lanes * columns,
            compressor_bits=lanes * width * columns,
            adder_bits=0,
        )

    def _tree_parts(self) -> Parts:
        # A tile per column: weights, digits passed on (enable and selection), partial products, and sums of four
        # words in two levels for each bit weight and one over the weights; the encoder stands before the first.
        columns, taps = self.loop("N").extent, self.loop("K").extent
        passed = (_PLANES + _OPERAND) * taps
        sums = _PLANES * (taps // 4 + 1) * (_PARTIAL + 3) + self.accumulator_bits
        tile = _OPERAND * taps + passed + _PLANES * _PARTIAL * taps + sums
        return Parts(
            registers=columns * tile + (_OPERAND * taps + 2 * passed),
            reset_registers=0,
            encoders=taps,
            selectors=columns * taps * _PLANES,
            compressor_bits=2 * columns * sums,
            adder_bits=columns * sums,
        )

    def operations_per_cycle(self, sigma: float = 30.0) -> float:
        """Multiply-accumulates a cycle at best."""
        return self.units() / (float(self.digit_cycles(sigma)) if self.skips_zeros else 1.0)


def _systolic(technique: str, dataflow: str, rows: int, columns: int, width: int | None = None) -> Description:
    weight = dataflow == "weight"
    across = Loop("K" if weight else "M", "spatial", rows, "skewed")
    return Description(
        f"{technique} systolic {'WS' if weight else 'OS'}",
        (
            across,
            Loop("N", "spatial", columns, "skewed"),
            Loop("M" if weight else "K", "temporal"),
            Loop("BW", "outside" if technique == "baseline" else "temporal"),
        ),
        "carry_propagate" if technique == "baseline" else "carry_save",
        "pe",
        width or (_PRODUCT + (rows - 1).bit_length() if weight else 32),
        stationary="weight" if weight else "output",
    )


def systolic_os(rows: int, columns: int, carry_save: bool = False) -> Description:
    """An output-stationary systolic array; OPT1 with sums in carry-save form."""
    return _systolic("OPT1" if carry_save else "baseline", "output", rows, columns)


def systolic_ws(rows: int, columns: int, carry_save: bool = False) -> Description:
    """A weight-stationary systolic array; OPT1 with sums in carry-save form."""
    return _systolic("OPT1" if carry_save else "baseline", "weight", rows, columns)


def cube(edge: int, carry_save: bool = False) -> Description:
    """A cube of edge^3 PEs, partial sums moving along K; OPT1 with sums in carry-save form."""
    return Description(
        f"{'OPT1' if carry_save else 'baseline'} cube",
        (
            Loop("M", "spatial", edge, "skewed"),
            Loop("N", "spatial", edge, "skewed"),
            Loop("K", "spatial", edge, "skewed"),
            Loop("BW", "temporal" if carry_save else "outside"),
        ),
        "carry_save" if carry_save else "carry_propagate",
        "pe",
        _PRODUCT + (edge - 1).bit_length(),
    )


def adder_tree(taps: int, columns: int) -> Description:
    """OPT2: a multiplier-adder tree of K = taps, partial products of equal bit weight summed together."""
    return Description(
        "OPT2 multiplier-adder tree",
        (
            Loop("K", "spatial", taps),
            Loop("N", "spatial", columns, "skewed"),
            Loop("M", "temporal"),
            Loop("BW", "spatial", _PLANES),
        ),
        "carry_propagate",
        "outside",
        20,
        depth=7,
    )


def matrix_2d(rows: int, columns: int, carry_save: bool = False) -> Description:
    """A 2D matrix (FlexFlow): operands broadcast along rows and columns, sums stay; OPT1 in carry-save form."""
    return Description(
        f"{'OPT1' if carry_save else 'baseline'} 2D matrix",
        (
            Loop("M", "spatial", rows),
            Loop("N", "spatial", columns),
            Loop("K", "temporal"),
            Loop("BW", "temporal" if carry_save else "outside"),
        ),
        "carry_save" if carry_save else "carry_propagate",
        "pe",
        32,
    )


def _serial(name: str, columns: int, encoder: Encoder, depth: int, lanes: int = 1) -> Description:
    return Description(
        name,
        (
            Loop("BW", "temporal"),
            Loop("K", "spatial" if lanes > 1 else "temporal", lanes),
            Loop("N", "spatial", columns) if columns > 1 else Loop("N", "temporal"),
            Loop("M", "temporal"),
        ),
        "carry_save",
        encoder,
        26,
        depth=depth,
        skips_zeros=True,
    )


def opt3(columns: int = 1) -> Description:
    """OPT3: PEs with an encoder each, a nonzero digit a cycle."""
    return _serial("OPT3 PE", columns, "pe", 7)


def opt4c(columns: int) -> Description:
    """OPT4C: a column of PEs behind one encoder."""
    return _serial("OPT4C column", columns, "row", 4)


def opt4e(columns: int, lanes: int = 4) -> Description:
    """OPT4E: OPT4C with ``lanes`` digits of different k in one compressor (no RTL; four lanes assumed)."""
    return _serial("OPT4E column", columns, "row", 4, lanes)
