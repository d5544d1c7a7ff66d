"""Quantised arrays at equal area: the ANT simulator's answers, and OliVe's headline ratios.

``cases.csv`` holds the figures printed by ANT's simulator (results/ant_res.csv), two decimals each, normalised to
AdaFloat; ``layers.csv`` the layers it was run on and the bits that each design needs for them. Our counting in
its way, rounded as printed, equals all of them. OliVe's own runs are not on record: its ratios are predicted from
the same counting with 4 bits throughout, on models and operand widths stated below.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from statistics import fmean, geometric_mean

from archsim.components.compute.quantised_array import QuantisedArray
from archsim.config import load_spec
from archsim.machine import ChipSpec, Machine, SystemSpec
from archsim.result import Result
from archsim.runs import run
from archsim.validation.framework import FOLDER, Row, answered, cases, compared
from archsim.validation.olive.counting import Cost, Design, Layer, cost

_SOURCE = "clevercool/ANT-Quantization bc84067, ant_simulator/results/ant_res.csv"
_BATCH = 64
DESIGNS: Mapping[str, Design] = {
    "ant_os": Design(32, 32),
    "ant_ws": Design(32, 32, weight_stationary=True),
    "bitfusion": Design(32, 32),
    "olaccel": Design(16, 18),
    "biscaled": Design(32, 80, most_bits=6, least_bits=6),
    "adafloat": Design(32, 28),
}
_ENERGIES = {"static": "static", "dram": "dram", "buffer": "buffer", "core": "core"}

# OliVe's transformers as (layers, hidden, intermediate); tokens of a batch assumed.
_MODELS = {
    "BERT-base": (12, 768, 3072),
    "BERT-large": (24, 1024, 4096),
    "BART-base": (12, 768, 3072),
    "GPT2-XL": (48, 1600, 6400),
    "BLOOM-7B1": (30, 4096, 16384),
    "OPT-6.7B": (32, 4096, 16384),
}
_TOKENS = 4096
# Bits of all layers: OliVe's claim is 4; OLAccel's dense path takes 4; ANT needs 8 to keep the accuracy of these
# models without training (assumed for all layers), AdaFloat has no other width.
_OLIVE = {
    "OliVe": (DESIGNS["ant_os"], 4),
    "ANT": (DESIGNS["ant_os"], 8),
    "OLAccel": (DESIGNS["olaccel"], 4),
    "AdaFloat": (DESIGNS["adafloat"], 8),
}


def network_costs() -> dict[tuple[str, str], Cost]:
    """Cost of every network on every design."""
    totals: dict[tuple[str, str], Cost] = {}
    with (FOLDER / "olive" / "layers.csv").open(newline="", encoding="utf-8") as stream:
        for line in csv.DictReader(stream):
            shape = (int(line[name]) for name in ("ic", "kernel", "edge", "oc"))
            layer = Layer(_BATCH * int(line["batch"]), *shape)
            for name, design in DESIGNS.items():
                if line[name]:  # BitFusion alone counts the patch embedding of ViT
                    at = name, line["network"]
                    part = cost(design, layer, int(line[name])).times(int(line["count"]))
                    totals[at] = totals.get(at, Cost()) + part
    return totals


def _normalised(totals: Mapping[tuple[str, str], Cost]) -> dict[tuple[str, str, str], float]:
    answers = {}
    for (design, network), total in totals.items():
        reference = totals["adafloat", network]
        answers[design, network, "cycles"] = total.cycles / reference.cycles
        for name, field in _ENERGIES.items():
            answers[design, network, name] = getattr(total, field) / reference.energy
    networks = list(dict.fromkeys(network for _, network in totals))
    for design in DESIGNS:
        for metric in ("cycles", *_ENERGIES):
            # What it prints as geomean is the arithmetic mean; BiScaled's energies over the two networks it prints.
            over = ("VGG16", "ResNet50") if design == "biscaled" and metric != "cycles" else networks
            answers[design, "Geomean", metric] = fmean(answers[design, network, metric] for network in over)
    return answers


def _transformer(design: Design, bits: int, shape: tuple[int, int, int]) -> Cost:
    layers, hidden, intermediate = shape
    total = Cost()
    for k, n, count in ((hidden, hidden, 4), (hidden, intermediate, 1), (intermediate, hidden, 1)):
        total = total + cost(design, Layer(_TOKENS, k, 1, 1, n), bits).times(count * layers)
    return total


def _ratios() -> dict[tuple[str, str], float]:
    totals = {
        name: [_transformer(design, bits, shape) for shape in _MODELS.values()]
        for name, (design, bits) in _OLIVE.items()
    }
    answers = {}
    for name in ("AdaFloat", "OLAccel", "ANT"):
        pairs = list(zip(totals[name], totals["OliVe"], strict=True))
        answers[name, "speedup of OliVe"] = geometric_mean([a.cycles / b.cycles for a, b in pairs])
        answers[name, "energy of it over OliVe"] = geometric_mean([a.energy / b.energy for a, b in pairs])
    return answers


def _runs() -> dict[tuple[str, str], float]:
    """The same ratios from our own engines: the weight products of BERT-base, fill, drain and tiling included."""
    layers, hidden, intermediate = _MODELS["BERT-base"]
    shapes = (("attention", hidden, hidden, 4), ("up", hidden, intermediate, 1), ("down", intermediate, hidden, 1))

    def result(chip: str, dtype: str) -> Result:
        gemms = [
            {"name": name, "m": _TOKENS, "k": k, "n": n, "count": count * layers, "dtype": dtype}
            for name, k, n, count in shapes
        ]
        return run({"name": chip, "chip": chip, "workload": {"kind": "gemm", "gemms": gemms}})

    olive = result("olive", "int4")
    answers = {}
    for name, dtype in (("AdaFloat", "int8"), ("OLAccel", "int4"), ("ANT", "int8")):
        other = result(name.lower(), dtype)
        answers[name, "speedup of OliVe, engines"] = other.time_s / olive.time_s
        answers[name, "energy of it over OliVe, engines"] = other.energy_j / olive.energy_j
    return answers


def _areas() -> dict[tuple[str, str], float]:
    spec = load_spec("olive", ChipSpec, category="chips")
    machine = Machine(SystemSpec(name="olive", chip=spec))
    engine = machine.components["chip.array"]
    if not isinstance(engine, QuantisedArray):
        raise TypeError("OliVe's array is no quantised array")
    blocks = engine.area_mm2(machine.technology)
    core = sum(blocks.values())
    return {
        ("systolic array", "share of 4-bit decoders"): 100 * blocks["narrow decoders"] / core,
        ("systolic array", "share of 8-bit decoders"): 100 * blocks["wide decoders"] / core,
        # A decoder before each of the 139,264 4-bit (or 69,632 8-bit) multiplier inputs; 754 mm2 of die, 12 nm.
        ("RTX 2080 Ti", "share of 4-bit decoders"): 100 * 139264 * 13.53e-6 / 754,
        ("RTX 2080 Ti", "share of 8-bit decoders"): 100 * 69632 * 18.00e-6 / 754,
    }


def rows() -> list[Row]:
    """The ANT simulator's figures as it prints them, and OliVe's ratios."""
    mine = _normalised(network_costs())
    answers: list[Row] = []
    for case in cases("olive"):
        at = case["design"], case["network"], case["metric"]
        name = f"{at[0]} {at[1]}"
        answers += compared("olive", name, _SOURCE, [(at[2], "x", float(case["published"]), round(mine[at], 2))])
    return answers + answered("olive", _ratios() | _runs() | _areas())
