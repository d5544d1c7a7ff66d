"""Instruction traces of SK hynix AiM, as its simulator reads them (github arkhadem/aim_simulator 0f28a07b).

One instruction a line, ``AiM NAME fields``, numbers decimal or with 0x; ``#`` begins a comment:

==========  ===========================  ================================================================
WR_GB       columns register mask        fill the global buffer (WRGB)
WR_BIAS     register mask                set the accumulators (WRMAC)
MAC_ABK     columns mask row             multiply columns of a row in all banks (MAC)
RD_MAC      register mask                read the accumulators (RDMAC), and wait for them
MAC_SBK     columns mask bank row        multiply columns of a row in one bank
AF          mask                         activation functions in all banks
RD_AF       register mask                read their results, and wait for them
EWMUL       columns mask row             multiply elements of banks
EWADD       columns register register    add registers of the host
WR_SBK      register mask bank row       write a column of one bank
WR_ABK      register mask row            write a column of all banks; one channel in the mask
RD_SBK      register mask bank row       read a column of one bank
COPY_BKGB   columns mask bank row        copy from a bank to the global buffer
COPY_GBBK   columns mask bank row        copy from the global buffer to a bank
SYNC                                     wait until all channels are done
EOC                                      the end
==========  ===========================  ================================================================

and ``R`` or ``W``: ``MEM channel bank row`` reads or writes a column, ``GPR register`` and ``CFR register data`` a
register of the host. A mask has a bit per channel, the lowest for channel 31. Channels play their own instructions
side by side.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from archsim.errors import InputError, Problem, nearest, shortened
from archsim.files import lines

CHANNELS = 32
"""channels that a mask has bits for"""
BANKS = 16
"""banks of a channel"""
_MOST_OF_ONE, _MOST_COLUMNS = 4096, 2 * 10**7
"""columns of an instruction, and of a trace; each is a command"""
_ALL = (1 << CHANNELS) - 1
_FIELDS = {
    "WR_GB": ("columns", "register", "mask"),
    "WR_BIAS": ("register", "mask"),
    "MAC_ABK": ("columns", "mask", "row"),
    "RD_MAC": ("register", "mask"),
    "MAC_SBK": ("columns", "mask", "bank", "row"),
    "AF": ("mask",),
    "RD_AF": ("register", "mask"),
    "EWMUL": ("columns", "mask", "row"),
    "EWADD": ("columns", "register", "data"),
    "WR_SBK": ("register", "mask", "bank", "row"),
    "WR_ABK": ("register", "mask", "row"),
    "RD_SBK": ("register", "mask", "bank", "row"),
    "COPY_BKGB": ("columns", "mask", "bank", "row"),
    "COPY_GBBK": ("columns", "mask", "bank", "row"),
    "SYNC": (),
    "EOC": (),
}
_REGIONS = {"MEM": ("channel", "bank", "row"), "GPR": ("register",), "CFR": ("register", "data")}
_COMMAND = {"WR_GB": "WRGB", "WR_BIAS": "WRMAC", "MAC_ABK": "MAC", "RD_MAC": "RDMAC"}
PRODUCTS = frozenset(_COMMAND)
"""Instructions of products of a matrix and a vector"""


class Instruction(NamedTuple):
    """One of all but EOC; of plain reads and writes the name is R or W and the region, as R_MEM."""

    name: str
    mask: int
    columns: int = 1
    row: int = -1
    bank: int = -1
    register: int = 0
    data: int = 0


def read(file: Path) -> list[Instruction]:
    """The instructions of a trace up to its end.

    Raises
    ------
    InputError: a line is none of the instructions above, or the trace has no instructions or no end.
    """
    found: list[Instruction] = []
    number, columns = 1, 0
    for number, line in lines(file):
        words = line.split("#")[0].split()
        if not words:
            continue
        try:
            instruction = _parsed(words)
        except ValueError as error:
            raise InputError([Problem(str(error), str(file), number, 1)]) from None
        if instruction is None:
            if not found:
                raise InputError([Problem("the trace is empty", str(file), number, 1)])
            return found
        columns += instruction.columns
        if columns > _MOST_COLUMNS:
            raise InputError([Problem(f"more than {_MOST_COLUMNS:,} columns are not played", str(file), number, 1)])
        found.append(instruction)
    raise InputError([Problem("the trace has no EOC", str(file), number, 1)])


def _parsed(words: list[str]) -> Instruction | None:
    if words[0] not in ("AiM", "R", "W") or len(words) < 2:
        raise ValueError(
            f"expected 'AiM NAME ...', 'R REGION ...' or 'W REGION ...', not '{shortened(' '.join(words))}'"
        )
    known = _FIELDS if words[0] == "AiM" else _REGIONS
    name = words[1].removeprefix("ISR_")
    if name not in known:
        kind = "instruction" if known is _FIELDS else "region"
        raise ValueError(f"no {kind} is called '{shortened(name)}': {nearest(name, known)}")
    fields = known[name]
    if len(words) - 2 != len(fields):
        raise ValueError(f"{name} takes {len(fields)} fields ({', '.join(fields) or 'none'}), not {len(words) - 2}")
    if name == "EOC":
        return None
    values = {field: _number(name, field, word) for field, word in zip(fields, words[2:], strict=True)}
    mask = values.get("mask", _ALL if name == "SYNC" else 0)
    if "channel" in values:
        mask = 1 << CHANNELS - 1 - values["channel"]
    if mask >> CHANNELS:
        raise ValueError(f"the mask of {name} has bits for {CHANNELS} channels, not {mask:#x}")
    if name == "WR_ABK" and mask & (mask - 1):
        raise ValueError(f"WR_ABK writes to one channel, not to those of {mask:#x}")
    return Instruction(
        name if known is _FIELDS else f"{words[0]}_{name}",
        mask,
        values.get("columns", 1),
        values.get("row", -1),
        values.get("bank", -1),
        values.get("register", 0),
        values.get("data", 0),
    )


def _number(name: str, field: str, word: str) -> int:
    try:
        value = int(word[:40], 0)
    except ValueError:
        raise ValueError(f"{field} of {name} is a number, not '{shortened(word)}'") from None
    if value < (1 if field in ("columns", "mask") else 0):
        raise ValueError(
            f"{field} of {name} is {'positive' if field in ('columns', 'mask') else 'not negative'}, "
            f"not {shortened(word)}"
        )
    most = {"bank": BANKS, "channel": CHANNELS, "columns": _MOST_OF_ONE + 1}.get(field, 2**40)
    if value >= most:
        raise ValueError(f"{field} of {name} is below {most:,}, not {shortened(word)}")
    return value


_LOOPS = {
    "micro_macab_1024_16banks": ("MAC_ABK 64 0xffffffff {i}",),
    "micro_ewmul_16banks": ("EWMUL 64 0xffffffff {i}",),
    "micro_rdmac_1024_16banks": ("RD_MAC 8 0xffffffff",),
    "micro_wrab_1024_1bank": ("WR_ABK 4 0x80000000 {i}",),
    "micro_wrbias_1024_16banks": ("WR_BIAS 4 0xffffffff",),
    "micro_wrbias_mac_af_rdaf_16banks": (
        "WR_BIAS 4 0xffffffff",
        "MAC_ABK 64 0xffffffff 0",
        "AF 0xffffffff",
        "RD_AF 4 0xffffffff",
    ),
    "micro_wrbias_mac_rdmac_mac_16banks": (
        "WR_BIAS 4 0xffffffff",
        "MAC_ABK 64 0xffffffff 0",
        "RD_MAC 4 0xffffffff",
        "MAC_ABK 64 0xffffffff 1",
    ),
    "micro_wrgb_gbbk_bggb_16banks": (
        "WR_GB 64 0 0xffffffff",
        "COPY_GBBK 64 0xffffffff 0 {i}",
        "COPY_BKGB 64 0xffffffff 8 {i}",
    ),
}
"""Tests of the simulator: lines that it repeats 1,024 times, i counting up"""
LOOPS = tuple(_LOOPS)


def loop(name: str, times: int = 1024) -> list[Instruction]:
    """A test of the simulator by name, one of :data:`LOOPS`; it stands in for a trace that is not there."""
    lines = (f"AiM {line.format(i=i)}".split() for i in range(times) for line in _LOOPS[name])
    return [instruction for words in lines if (instruction := _parsed(words)) is not None]


def streams(instructions: list[Instruction]) -> dict[tuple[Instruction, ...], int]:
    """What channels play, and how many play the same; channels without instructions are left out."""
    shares: dict[tuple[Instruction, ...], int] = {}
    for channel in range(CHANNELS):
        mine = tuple(one for one in instructions if one.mask >> channel & 1)
        if mine:
            shares[mine] = shares.get(mine, 0) + 1
    return shares


def commands(stream: tuple[Instruction, ...]) -> Iterator[tuple[str, int]]:
    """The commands of a channel's instructions, with the row that a MAC needs."""
    for instruction in stream:
        for _ in range(instruction.columns):
            yield _COMMAND[instruction.name], instruction.row
