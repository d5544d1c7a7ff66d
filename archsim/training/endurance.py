"""Many steps of training on machines that fail: checkpoints beside them, and what is done when a stage is lost.

A checkpoint is copied from each GPU to its host and written from there to storage. What stops training of it depends on
how it is made (``configs/checkpoints``). A lost GPU takes its stage with it:

=============  ==================================================================================================
rollback       a machine takes its place, all go back to the last checkpoint that was written, and read it
neighbours     a machine takes its place and is given the mean of the stages beside it (arXiv 2506.15461): only the step
               under way is lost; what the mean costs in convergence is not said
skip           micro-batches go around the stage until a machine has taken its place (SkipPipe): nothing stops;
               steps without all of the model are counted
=============  ==================================================================================================
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from archsim.errors import InputError, Problem
from archsim.spec import Spec
from archsim.units import BytesPerSecond

RECOVERIES = ("rollback", "neighbours", "skip")
_MOST_FAILURES = 10**5


class CheckpointSpec(Spec):
    """How checkpoints are made."""

    name: str
    source: str
    """where the rates come from"""
    copy_: Annotated[Literal["blocking", "beside"], Field(alias="copy")]
    """from the GPU to its host: while training stops, or beside the next step until it updates its parameters"""
    copy_bandwidth: BytesPerSecond
    """of a GPU"""
    write: Literal["blocking", "beside"]
    """from the host to storage: while training stops, or beside the steps that follow"""
    serialise_bandwidth: BytesPerSecond | None = None
    """of a GPU's process, where it turns tensors into a file's bytes before it writes"""
    node_bandwidth: BytesPerSecond
    """of a node to storage"""
    total_bandwidth: BytesPerSecond
    """of storage, all nodes together"""
    buffers: Annotated[int, Field(ge=1)] = 1
    """checkpoints that fit the host's memory"""


@dataclass(frozen=True)
class Saving:
    """A checkpoint of a job.

    Attributes
    ----------
    how: it is made. copy_s, write_s: of the GPU that holds most. read_s: to all GPUs from storage.
    hidden_s: of a step in which nothing is updated.
    """

    how: CheckpointSpec
    copy_s: float
    write_s: float
    read_s: float
    hidden_s: float

    @classmethod
    def of(
        cls, how: CheckpointSpec, held: tuple[int, int], total: int, gpus: int, node: int, hidden_s: float
    ) -> Saving:
        """That of so many bytes in all; ``held``: bytes of the rank with most, on its GPU and away from it already."""
        copy_s = held[0] / how.copy_bandwidth
        nodes = -(-gpus // node)
        stored_s = max(total / how.total_bandwidth, total / nodes / how.node_bandwidth)
        serial_s = sum(held) / how.serialise_bandwidth if how.serialise_bandwidth else 0.0
        return cls(how, copy_s, max(stored_s, serial_s), stored_s + copy_s, hidden_s)

    def stops_s(self, room_in_s: float) -> float:
        """How long training stops for one, where the host has room for it in so many seconds."""
        copied = room_in_s + self.copy_s
        if self.how.copy_ == "beside":
            return max(0.0, copied - self.hidden_s)
        return copied + (self.write_s if self.how.write == "blocking" else 0.0)


@dataclass(frozen=True)
class Job:
    """Steps to be done.

    Attributes
    ----------
    step_s: of a step. every: steps between checkpoints. failures_per_s: of all GPUs together.
    restart_s: until a machine has taken the place of a lost one. rebuild_s: to give it the mean of its neighbours.
    """

    steps: int
    step_s: float
    every: int
    failures_per_s: float
    recovery: str
    restart_s: float
    rebuild_s: float
    seed: int


@dataclass
class Endured:
    """How it went.

    Attributes
    ----------
    seconds: in all. stopped_s: of these, for checkpoints. failures: GPUs lost. steps_again: steps begun more than once.
    incomplete: steps during which a part of the model was absent. saved: checkpoints made.
    """

    seconds: float = 0.0
    stopped_s: float = 0.0
    failures: int = 0
    steps_again: int = 0
    incomplete: int = 0
    saved: int = 0

    def lose(self) -> None:
        """Lose a GPU.

        Raises
        ------
        InputError: so many are lost that the steps are never done.
        """
        self.failures += 1
        if self.failures > _MOST_FAILURES:
            raise InputError([Problem("GPUs fail so often that the steps are never done", path="mtbf_h")])


def endure(job: Job, saving: Saving | None) -> Endured:
    """Do all steps, those between two checkpoints at once where nothing fails.

    Raises
    ------
    InputError: GPUs fail so often that the steps are never done.
    """
    found, done, kept = Endured(), 0, 0
    failures = _failures(job)
    fails = next(failures)
    written: list[tuple[float, int]] = []  # when checkpoints will be on storage, and of which step
    absent: list[tuple[float, float]] = []  # from when until when machines are missing
    while done < job.steps:
        now = found.seconds
        block = min(job.every - done % job.every, job.steps - done)
        trained = now + block * job.step_s
        stop_s, on_storage = 0.0, math.inf
        if saving is not None and (done + block) % job.every == 0:
            stop_s, on_storage = _checkpoint(saving, written, trained)
        if fails >= trained + stop_s:
            found.seconds, done = trained + stop_s, done + block
            found.incomplete += _touched(absent, now, block, job.step_s)
            absent = [one for one in absent if one[1] > found.seconds]
            if on_storage < math.inf:
                found.saved, found.stopped_s = found.saved + 1, found.stopped_s + stop_s
                written.append((on_storage, done))
                kept = max([kept, *(step for tick, step in written if tick <= found.seconds)])
                written = [one for one in written if one[0] > found.seconds]
            continue
        found.lose()
        if job.recovery == "skip":
            absent.append((fails, fails + job.restart_s))
            fails = next(failures)
            continue
        over = min(block, int((fails - now) / job.step_s))
        if job.recovery == "rollback":
            kept = max([kept, *(step for tick, step in written if tick <= fails)])
            found.steps_again += done + over - kept + (over < block)
            found.seconds, done = fails + job.restart_s + (saving.read_s if saving else 0.0), kept
            written = []
        else:
            found.steps_again += over < block
            found.seconds, done = fails + job.restart_s + job.rebuild_s, done + over
        fails = next(failures)
        while fails < found.seconds:  # lost while all wait
            found.lose()
            found.seconds = max(found.seconds, fails + job.restart_s)
            fails = next(failures)
    return found


def _touched(absent: list[tuple[float, float]], now: float, steps: int, step_s: float) -> int:
    """Steps of a row of them that begin now during which a machine is missing."""
    found, next_step = 0, 0
    for start, end in sorted(absent):
        first = max(next_step, int((start - now) / step_s))
        last = min(steps, math.ceil((end - now) / step_s))
        found, next_step = found + max(0, last - first), max(next_step, last)
    return found


def _checkpoint(saving: Saving, written: list[tuple[float, int]], at: float) -> tuple[float, float]:
    """How long training stops for a checkpoint that begins at a time, and when it is on storage."""
    waiting = sorted(tick for tick, _ in written if tick > at)
    full = len(waiting) >= saving.how.buffers
    room_in_s = waiting[-saving.how.buffers] - at if full else 0.0
    copied = at + room_in_s + saving.copy_s
    return saving.stops_s(room_in_s), max([copied, *waiting]) + saving.write_s


def _failures(job: Job) -> Iterator[float]:
    """When GPUs are lost, seconds from the start; equal seeds, equal times."""
    rng, now = random.Random(job.seed), 0.0
    while True:
        now = now + rng.expovariate(job.failures_per_s) if job.failures_per_s else math.inf
        yield now


def best_every(job: Job, saving: Saving) -> int | None:
    """Steps between checkpoints that lose least: sqrt(2 C / failures a second) seconds (Young, CACM 1974), C: what a
    checkpoint stops; None where nothing fails."""
    if not job.failures_per_s:
        return None
    stop_s = max(saving.stops_s(0.0), 1e-3 * job.step_s)
    return max(1, round(math.sqrt(2 * stop_s / job.failures_per_s) / job.step_s))
