"""Memory that computes: AiM's instruction traces and configurations, and HBM-PIM's .ini.

github arkhadem/aim_simulator 0f28a07b (a Ramulator 2); SAITPublic/PIMSimulator b464dde0.
"""

from __future__ import annotations

import re
from pathlib import Path

from archsim.formats import Converted, Keys
from archsim.formats.ini import assignments

NAME = "AiM / HBM-PIM"
_TIMING = {
    "BL": 4,
    "RL": 20,
    "WL": 8,
    "tCCDS": 2,
    "tCCDL": 4,
    "tRCDRD": 14,
    "tRCDWR": 10,
    "tRAS": 33,
    "tRP": 14,
    "tRC": 47,
    "tWR": 16,
    "tRFC": 350,
    "tREFI": 3900,
    "NUM_PIM_BLOCKS": 8,
    "NUM_BANKS": 16,
    "NUM_BANK_GROUPS": 4,
}
"""Of HBM2_samsung_2M_16B_x64.ini, which the model holds"""


def fits(path: Path, head: str) -> bool:
    """AiM's instructions, its memory system, or PIM blocks."""
    if path.suffix in (".yaml", ".yml"):
        return re.search(r"^MemorySystem:", head, re.MULTILINE) is not None and "AiM" in head
    if path.suffix == ".ini":
        return "NUM_PIM_BLOCKS" in head or "PIM_PRECISION" in head
    return re.search(r"^AiM \w+", head, re.MULTILINE) is not None


def read(path: Path) -> Converted:
    """A case of ``archsim pim``."""
    if path.suffix == ".ini":
        return _hbm_pim(path)
    if path.suffix in (".yaml", ".yml"):
        notes = ("AiM by archsim's own device 'aim', whose figures are this simulator's: give a trace or -m and -k",)
        return Converted("case", {"device": "aim"}, notes, "pim")
    return Converted("case", {"device": "aim", "trace": str(path)}, (), "pim")


def _hbm_pim(path: Path) -> Converted:
    keys = Keys(assignments(path, r"[;#]"), path)
    notes = []
    for name, held in _TIMING.items():
        if name in keys.values and keys.whole(name, least=0) != held:
            notes.append(f"{name} = {keys.values[name]} is not carried over: the model holds {held}")
    case = {"device": "hbm_pim"}
    if "NUM_CHANS" in keys.values:
        case["channels"] = str(keys.whole("NUM_CHANS"))
    if keys.values.get("PIM_PRECISION", "FP16") != "FP16":
        notes.append(f"PIM_PRECISION {keys.values['PIM_PRECISION']} is not modelled: FP16 is taken")
    notes.append("the device alone: give a product by -m and -k")
    return Converted("case", case, tuple(notes), "pim")
