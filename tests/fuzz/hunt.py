"""Gives readers inputs that are nearly right: each is read or refused by one of our errors, soon and in little memory.

``make fuzz`` goes on for millions: ``python -m fuzz.hunt COUNT FIRST_SEED`` in ``tests``.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from numba.core import event

from archsim.cli.new import START
from archsim.errors import ArchsimError

from .mutate import mutated, mutated_bytes
from .targets import TARGETS, Target

LONGEST_S = 10  # of reading; compiling kernels is none
_FAST = Path("/dev/shm")
MOST_KIB = 2 * 2**20


class TooLong(BaseException):
    """A reader that does not come back."""


class Compiling(event.Listener):
    """Stops the clock of a reader while kernels are compiled, each with those that it calls."""

    def __init__(self) -> None:
        self._begun = 0

    def on_start(self, event: event.Event) -> None:
        self._begun += 1
        signal.alarm(0)

    def on_end(self, event: event.Event) -> None:
        self._begun -= 1
        if not self._begun:
            signal.alarm(LONGEST_S)


@dataclass(frozen=True)
class Found:
    """An input that was neither read nor refused."""

    target: str
    seed: int
    what: str
    text: str | bytes

    def __str__(self) -> str:
        return f"{self.target}, seed {self.seed}: {self.what}\n{self.text[:600]!r}"


def hunt(count: int, first_seed: int = 0) -> Iterator[Found]:
    """What goes wrong among so many inputs, spread over all readers by their shares."""
    total = sum(target.share for target in TARGETS)
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    before = signal.signal(signal.SIGALRM, _late)
    home = Path.cwd()
    try:
        with (
            tempfile.TemporaryDirectory(dir=_FAST if _FAST.is_dir() else None) as folder,
            event.install_listener("numba:compile", Compiling()),
        ):
            os.chdir(folder)
            for file in START.iterdir():  # what inputs name
                Path(file.name).write_bytes(file.read_bytes())
            for target in TARGETS:
                for i in range(max(1, round(count * target.share / total))):
                    found = _one(target, first_seed + i)
                    if found is not None:
                        yield found
            os.chdir(home)
    finally:
        os.chdir(home)
        signal.signal(signal.SIGALRM, before)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if used > max(MOST_KIB, peak_kib):  # what was taken before is not of these inputs
        yield Found("all", first_seed, f"took {used / 2**20:.1f} GiB", "")


def _late(number: int, frame: FrameType | None) -> None:
    raise TooLong


def _one(target: Target, seed: int) -> Found | None:
    dice = random.Random(f"{target.name} {seed}")
    right = dice.choice(target.seeds)
    text = mutated_bytes(right, dice) if isinstance(right, bytes) else mutated(right, dice)
    asked: object = text
    if target.file:
        asked = Path(target.file)
        Path(target.file).write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    signal.alarm(LONGEST_S)
    try:
        target.read(asked)
    except ArchsimError as error:
        if any(len(line) > 2000 for line in str(error).splitlines()):
            return Found(target.name, seed, f"says too much: {str(error)[:300]}", text)
    except TooLong:
        return Found(target.name, seed, f"takes more than {LONGEST_S} s", text)
    except Exception:  # noqa: BLE001
        lines = traceback.format_exc().strip().splitlines()
        return Found(target.name, seed, "\n".join(lines[-7:]), text)
    finally:
        signal.alarm(0)
    return None


def main(count: int, first_seed: int) -> int:
    """Hunt, and tell what was found and how fast."""
    start, faults = time.monotonic(), 0
    for found in hunt(count, first_seed):
        faults += 1
        print(found, "\n", flush=True)
    print(f"{count:,} inputs of {len(TARGETS)} readers in {time.monotonic() - start:.0f} s: {faults} faults")
    return min(faults, 1)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0))
