"""Instruction traces of SK hynix AiM, as its simulator reads them (github arkhadem/aim_simulator 0f28a07b).

One instruction a line, ``AiM NAME fields``, numbers decimal or with 0x; ``#`` begins a comment:

=========  ======================  =====================================================
WR_GB      columns register mask   fill the global buffer (WRGB)
WR_BIAS    register mask           set the accumulators (WRMAC)
MAC_ABK    columns mask row        multiply columns of a row in all banks (MAC)
RD_MAC     register mask           read the accumulators (RDMAC), and wait for them
EOC                                the end
=========  ======================  =====================================================

A mask has a bit per channel, the lowest for channel 31. Channels play their own instructions side by side.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from archsim.errors import InputError, Problem, nearest

CHANNELS = 32
"""channels that a mask has bits for"""
_FIELDS = {
    "WR_GB": ("columns", "register", "mask"),
    "WR_BIAS": ("register", "mask"),
    "MAC_ABK": ("columns", "mask", "row"),
    "RD_MAC": ("register", "mask"),
    "EOC": (),
}
_COMMAND = {"WR_GB": "WRGB", "WR_BIAS": "WRMAC", "MAC_ABK": "MAC", "RD_MAC": "RDMAC"}


class Instruction(NamedTuple):
    """One of all but EOC."""

    name: str
    mask: int
    columns: int = 1
    row: int = -1


def read(file: Path) -> list[Instruction]:
    """The instructions of a trace up to its end.

    Raises
    ------
    InputError: a line is none of the instructions above, or the trace has no instructions or no end.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError([Problem(f"cannot read it: {reason}", str(file))]) from None
    found: list[Instruction] = []
    for number, line in enumerate(lines, start=1):
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
        found.append(instruction)
    raise InputError([Problem("the trace has no EOC", str(file), max(1, len(lines)), 1)])


def _parsed(words: list[str]) -> Instruction | None:
    if words[0] != "AiM" or len(words) < 2:
        raise ValueError(f"expected 'AiM NAME ...', not '{' '.join(words)}'")
    name = words[1].removeprefix("ISR_")
    if name not in _FIELDS:
        raise ValueError(f"no instruction is called '{name}': {nearest(name, _FIELDS)}")
    fields = _FIELDS[name]
    if len(words) - 2 != len(fields):
        raise ValueError(f"{name} takes {len(fields)} fields ({', '.join(fields) or 'none'}), not {len(words) - 2}")
    if name == "EOC":
        return None
    values = {}
    for field, word in zip(fields, words[2:], strict=True):
        try:
            values[field] = int(word, 0)
        except ValueError:
            raise ValueError(f"{field} of {name} is a number, not '{word}'") from None
        if values[field] < (1 if field in ("columns", "mask") else 0):
            raise ValueError(f"{field} of {name} is {'positive' if field != 'row' else 'not negative'}, not {word}")
    if values["mask"] >> CHANNELS:
        raise ValueError(f"the mask of {name} has bits for {CHANNELS} channels, not {values['mask']:#x}")
    return Instruction(name, values["mask"], values.get("columns", 1), values.get("row", -1))


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
