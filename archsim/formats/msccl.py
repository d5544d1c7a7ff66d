"""MSCCL: an algorithm of a collective in XML (github Azure/msccl-tools; msccl-executor), as sends of chunks.

Steps of a thread block follow each other, and wait for a step of another one where they say so. What a step moves is
followed through the buffers from the beginning, so that every send says which chunks of the collective it carries.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections import defaultdict, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from archsim.errors import InputError, Problem, shortened
from archsim.files import read_text
from archsim.formats import Converted

NAME = "MSCCL"
_OPS = {
    "allreduce": "all_reduce",
    "allgather": "all_gather",
    "reduce_scatter": "reduce_scatter",
    "reducescatter": "reduce_scatter",
    "alltoall": "all_to_all",
    "broadcast": "broadcast",
}
_SENDS = ("s", "rcs", "rrs", "rrcs")
_RECEIVES = ("r", "rcs", "rrc", "rrs", "rrcs")
_REDUCES = ("rrc", "rrs", "rrcs")


def fits(path: Path, head: str) -> bool:
    """Its root element."""
    return path.suffix == ".xml" and "<algo" in head


@dataclass
class _Step:
    gpu: int
    block: tuple[int, int]
    number: int
    kind: str
    source: tuple[str, int]
    target: tuple[str, int]
    count: int
    depends: tuple[int, int] | None
    line: str
    done: bool = False
    before: frozenset[int] = frozenset()


@dataclass
class _Block:
    send: int
    receive: int
    channel: int
    steps: list[_Step] = field(default_factory=list)
    at: int = 0


def read(path: Path) -> Converted:
    """An algorithm."""
    try:
        root = ElementTree.fromstring(read_text(path))
    except ElementTree.ParseError as error:
        line, column = error.position
        message = f"no valid XML: {shortened(error)}"
        raise InputError([Problem(message, str(path), line, column + 1)]) from None
    return _Player(path, root).algorithm()


class _Player:
    """Plays the steps, in an order in which they can be done."""

    def __init__(self, path: Path, root: ElementTree.Element) -> None:
        self.path, self.root = path, root
        op = str(root.get("coll", "")).lower()
        if op == "custom":
            raise self._error("a custom collective has no name here: expected coll=" + ", ".join(_OPS))
        if op not in _OPS:
            raise self._error(f"coll: expected {', '.join(_OPS)}, not '{shortened(op)}'")
        self.op = _OPS[op]
        self.ranks = self._number(root, "ngpus")
        self.chunks = self._number(root, "nchunksperloop")
        if self.ranks < 2 or self.chunks < 1:
            raise self._error("ngpus is at least 2, nchunksperloop at least 1")
        if self.op == "all_to_all":
            self.chunks = self.chunks * self.ranks
        self.inplace = root.get("inplace", "0") == "1" or self.op == "all_reduce"
        self.held: dict[tuple[int, str, int], int] = {}
        self.wrote: dict[tuple[int, str, int], frozenset[int]] = defaultdict(frozenset)
        self.sends: list[dict[str, Any]] = []
        self.blocks: dict[tuple[int, int], _Block] = {}
        self.copies = 0
        self._parse()
        self._begin()

    def _error(self, message: str) -> InputError:
        return InputError([Problem(message, str(self.path))])

    def _number(self, element: ElementTree.Element, name: str, default: str | None = None) -> int:
        text = element.get(name, default)
        try:
            return int(text or "")
        except ValueError:
            raise self._error(f"<{element.tag}> {name}: expected a whole number, not '{shortened(text)}'") from None

    def _parse(self) -> None:
        for gpu in self.root.iter("gpu"):
            rank = self._number(gpu, "id")
            for block in gpu.iter("tb"):
                place = (rank, self._number(block, "id"))
                send, receive, channel = (
                    self._number(block, name, usual) for name, usual in (("send", "-1"), ("recv", "-1"), ("chan", "0"))
                )
                made = _Block(send, receive, channel)
                for raw in block.iter("step"):
                    kind = raw.get("type", "")
                    if kind not in (*_SENDS, *_RECEIVES, "cpy", "re", "nop"):
                        raise self._error(f"gpu {rank}: a step of type '{shortened(kind)}' is not known")
                    depends = None
                    if self._number(raw, "depid", "-1") >= 0:
                        depends = (self._number(raw, "depid"), self._number(raw, "deps"))
                    made.steps.append(
                        _Step(
                            rank,
                            place,
                            self._number(raw, "s"),
                            kind,
                            (raw.get("srcbuf", "i"), self._number(raw, "srcoff", "-1")),
                            (raw.get("dstbuf", "o"), self._number(raw, "dstoff", "-1")),
                            self._number(raw, "cnt", "1"),
                            depends,
                            f"gpu {rank}, thread block {place[1]}, step {raw.get('s')}",
                        )
                    )
                self.blocks[place] = made
        if {place[0] for place in self.blocks} != set(range(self.ranks)):
            raise self._error(f"expected gpus 0 to {self.ranks - 1}")

    def _begin(self) -> None:
        """What the buffers hold: of chunks their number in the collective."""
        share = self.chunks // self.ranks
        for rank in range(self.ranks):
            if self.op in ("all_reduce", "reduce_scatter") or (self.op == "broadcast" and rank == 0):
                given = {offset: offset for offset in range(self.chunks)}
            elif self.op == "all_gather":
                given = {offset: rank * share + offset for offset in range(share)}
            elif self.op == "all_to_all":
                # The buffer of a rank holds, destination by destination, what archsim numbers by source and then by
                # destination.
                per = self.chunks // self.ranks
                given = {offset: rank * per + self._to(offset, per) for offset in range(per)}
            else:
                given = {}
            for offset, chunk in given.items():
                self.held[rank, "i", offset] = chunk
            if self.op == "all_gather":  # in place, the input is a part of the output
                for offset, chunk in given.items():
                    self.held[rank, "o", rank * share + offset] = chunk

    def _to(self, offset: int, per: int) -> int:
        target, part = divmod(offset, per // self.ranks)
        return part * self.ranks + target

    def _slot(self, rank: int, buffer: str, offset: int) -> tuple[int, str, int]:
        if self.inplace and buffer == "o" and self.op in ("all_reduce", "reduce_scatter", "broadcast"):
            return rank, "i", offset
        return rank, buffer, offset

    def algorithm(self) -> Converted:
        """All sends, in an order in which they were done."""
        waiting: dict[tuple[int, int, int], deque[tuple[list[int], list[int], frozenset[int]]]] = defaultdict(deque)
        moved = True
        while moved:
            moved = False
            for block in self.blocks.values():
                while block.at < len(block.steps) and self._do(block, block.steps[block.at], waiting):
                    block.at += 1
                    moved = True
        stuck = [block.steps[block.at] for block in self.blocks.values() if block.at < len(block.steps)]
        if stuck:
            raise self._error(f"deadlocks: {stuck[0].line} ({stuck[0].kind}) waits for ever")
        left = next((key for key, queue in waiting.items() if queue), None)
        if left is not None:
            raise self._error(f"gpu {left[0]} sends to gpu {left[1]} what that never receives")
        document = {
            "name": self.root.get("name", self.path.stem) or self.path.stem,
            "op": self.op,
            "ranks": self.ranks,
            "chunks": self.chunks,
            "sends": self.sends,
            "source": f"MSCCL {self.path.name}",
        }
        notes = [
            f"protocol {self.root.get('proto', '?')}, channels and instances are not carried over: links are shared"
        ]
        if self.copies:
            notes.append(f"{self.copies} copies and sums within a rank take no time")
        return Converted("algorithm", document, tuple(notes))

    def _do(self, block: _Block, step: _Step, waiting: Any) -> bool:
        before: set[int] = set(block.steps[block.at - 1].before) if block.at else set()
        if step.depends is not None:
            other = self.blocks.get((step.gpu, step.depends[0]))
            if other is None or step.depends[1] >= len(other.steps):
                raise self._error(f"{step.line}: depends on a step that does not exist")
            if other.at <= step.depends[1]:
                return False
            before |= other.steps[step.depends[1]].before
        chunks: list[int] = []
        numbers: list[int] = []
        if step.kind in _RECEIVES:
            queue = waiting[block.receive, step.gpu, block.channel]
            if not queue:
                return False
            chunks, numbers, _ = queue.popleft()
            if len(chunks) != step.count:
                raise self._error(f"{step.line}: receives {step.count} chunks where {len(chunks)} were sent")
            for number in numbers:
                self.sends[number]["reduce"] = step.kind in _REDUCES
            before |= set(numbers)
            if step.kind != "rrs":
                for place, chunk in enumerate(chunks):
                    self._put(step, step.target, place, chunk, frozenset(numbers))
        if step.kind in ("cpy", "re"):
            self.copies += 1
            for place in range(step.count):
                slot = self._slot(step.gpu, step.source[0], step.source[1] + place)
                chunk = self._held(step, slot)
                if step.kind == "re":  # what came to a buffer aside is added now: as if it had been on its arrival
                    for number in self.wrote[slot]:
                        self.sends[number]["reduce"] = True
                else:
                    self._put(step, step.target, place, chunk, self.wrote[slot])
        if step.kind in _SENDS:
            if not 0 <= block.send < self.ranks or block.send == step.gpu:
                raise self._error(f"{step.line}: there is no other gpu {block.send} to send to")
            if step.kind == "s":
                chunks = [
                    self._held(step, self._slot(step.gpu, step.source[0], step.source[1] + place))
                    for place in range(step.count)
                ]
            number = len(self.sends)
            after = sorted(before)
            self.sends.append({"source": step.gpu, "target": block.send, "chunks": list(chunks), "after": after})
            waiting[step.gpu, block.send, block.channel].append((list(chunks), [number], frozenset(after)))
            numbers = [number]
        step.before = frozenset(before)
        step.done = True
        return True

    def _held(self, step: _Step, slot: tuple[int, str, int]) -> int:
        if slot not in self.held:
            raise self._error(f"{step.line}: buffer {slot[1]} holds nothing at {slot[2]}")
        return self.held[slot]

    def _put(self, step: _Step, target: tuple[str, int], place: int, chunk: int, by: frozenset[int]) -> None:
        slot = self._slot(step.gpu, target[0], target[1] + place)
        self.held[slot] = chunk
        self.wrote[slot] = by
