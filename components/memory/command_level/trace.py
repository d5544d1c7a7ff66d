"""Request traces as Ramulator and DRAMsim3 read them.

Ramulator: ``LD 0x1240`` and ``ST 4096``. DRAMsim3: ``0x1240 READ 0``, the address without regard to a prefix in
hexadecimal, then the cycle from which it may be offered.
"""

from __future__ import annotations

from pathlib import Path

from archsim.components.memory.command_level.work import Requests
from archsim.errors import InputError, Problem

_WRITES = {"ST", "W", "WRITE", "P_MEM_WR", "BOFF"}
_READS = {"LD", "R", "READ", "P_MEM_RD", "P_FETCH"}


def read(file: Path) -> Requests:
    """The requests of a file in either format.

    Raises
    ------
    InputError: the file cannot be read, is empty, or a line is in neither format.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError([Problem(f"cannot read it: {reason}", str(file))]) from None
    addresses, writes, arrivals = list[int](), list[bool](), list[int]()
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            address, kind, arrival = _request(words)
        except ValueError:
            raise InputError(
                [
                    Problem(
                        f"'{line.strip()[:80]}' is no request: write 'LD 0x40' or '0x40 READ 0'", str(file), number, 1
                    )
                ]
            ) from None
        if not 0 <= address < 2**62 or arrival < (arrivals[-1] if arrivals else 0):
            raise InputError([Problem("an address lies in 0 to 2^62, and cycles do not go back", str(file), number, 1)])
        addresses.append(address)
        writes.append(kind in _WRITES)
        arrivals.append(arrival)
    if not addresses:
        raise InputError([Problem("it holds no requests", str(file))])
    return Requests.of(addresses, writes, arrivals)


def _request(words: list[str]) -> tuple[int, str, int]:
    """Address, kind and cycle of a line."""
    if words[0] in ("LD", "ST", "R", "W") and len(words) == 2:
        return int(words[1], 0), words[0], 0
    address, kind, arrival = words
    if kind.upper() not in _READS | _WRITES:
        raise ValueError(kind)
    return int(address, 16), kind.upper(), int(arrival)
