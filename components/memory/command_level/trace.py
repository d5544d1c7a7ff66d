"""Request traces as Ramulator and DRAMsim3 read them.

Ramulator 2: ``LD 0x1240`` and ``ST 4096``; Ramulator 1: ``0x1240 R`` and ``0x1240 W``. DRAMsim3: ``0x1240 READ 0``, the
address without regard to a prefix in hexadecimal, then the cycle from which it may be offered.
"""

from __future__ import annotations

from pathlib import Path

from archsim.components.memory.command_level.work import LAST_ARRIVAL, Requests
from archsim.errors import InputError, Problem, shortened
from archsim.files import lines

_WRITES = {"ST", "W", "WRITE", "P_MEM_WR", "BOFF"}
_READS = {"LD", "R", "READ", "P_MEM_RD", "P_FETCH"}
_MOST = 10**7


def read(file: Path) -> Requests:
    """The requests of a file in either format.

    Raises
    ------
    InputError: the file cannot be read, is empty, or a line is in neither format.
    """
    addresses, writes, arrivals = list[int](), list[bool](), list[int]()
    for number, line in lines(file):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            address, kind, arrival = _request(words)
        except ValueError:
            message = f"'{shortened(line.strip())}' is no request: write 'LD 0x40', '0x40 R' or '0x40 READ 0'"
            raise InputError([Problem(message, str(file), number, 1)]) from None
        if not 0 <= address < 2**62 or not (arrivals[-1] if arrivals else 0) <= arrival <= LAST_ARRIVAL:
            message = f"an address lies in 0 to 2^62, cycles in 0 to {LAST_ARRIVAL:,}, and they do not go back"
            raise InputError([Problem(message, str(file), number, 1)])
        if len(addresses) == _MOST:
            raise InputError([Problem(f"more than {_MOST:,} requests are not played", str(file), number, 1)])
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
    if words[-1] in ("R", "W") and len(words) == 2:
        return int(words[0], 16), words[-1], 0
    address, kind, arrival = words
    if kind.upper() not in _READS | _WRITES:
        raise ValueError(kind)
    return int(address, 16), kind.upper(), int(arrival)
