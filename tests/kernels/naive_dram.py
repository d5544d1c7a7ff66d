"""DRAM controllers tick by tick, from the tables of rules: slow, plain, and the ground truth of the kernels."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, field

from archsim.components.memory.command_level.preset import DramPreset
from archsim.components.memory.command_level.standard import COMMANDS, evaluate
from archsim.components.memory.command_level.work import Requests, decode

COLUMN = ("RD", "WR", "RDA", "WRA")
Place = tuple[int, ...]  # of a bank, or of what a command for many banks is for


@dataclass
class Request:
    """A request on its way."""

    number: int
    place: Place
    row: int
    address: int
    is_write: bool
    arrival: int
    taken: int = -1
    done: int = -1
    begun: bool = False
    deadline: int = -1

    @property
    def column(self) -> str:
        return "WR" if self.is_write else "RD"


@dataclass
class Outcome:
    """What happened: commands as (tick, name, place, request or -1), counts, and the end."""

    commands: list[tuple[int, str, Place, int]] = field(default_factory=list)
    hits: int = 0
    misses: int = 0
    conflicts: int = 0
    last_taken: int = 0
    answered: list[int] = field(default_factory=list)


class Devices:
    """All banks of a channel: what is open, and when which command may come."""

    def __init__(self, preset: DramPreset) -> None:
        rules = preset.rules
        self.preset = preset
        self.ticks = rules.ticks
        self.depth = {level: i for i, level in enumerate(("channel", *rules.levels))}
        self.scope = self.depth[rules.scope]
        self.gaps = rules.gaps(preset.timing)
        self.cycles = {name: rules.command_ticks(i) for i, name in enumerate(COMMANDS)}
        self.bus = rules.bus
        self.timing = {name: value * rules.ticks for name, value in preset.timing.items()}
        self.read_latency = evaluate(rules.read_latency, self.timing)
        self.past: dict[tuple[Place, str], list[int]] = defaultdict(list)
        self.free = {"row": 0, "column": 0}
        self.places: list[Place] = [()]
        for level in rules.levels:
            self.places = [(*p, i) for p in self.places for i in range(preset.organisation[level])]
        self.row: dict[Place, int | None] = dict.fromkeys(self.places)
        self.half_open: set[Place] = set()
        self.outcome = Outcome()

    def bus_of(self, name: str) -> str:
        return "column" if self.bus in ("dual", "half") and name in COLUMN else "row"

    def earliest(self, name: str, place: Place) -> int:
        """The first tick at which all rules allow the command; of its bus only that it is free."""
        at = self.free[self.bus_of(name)]
        for gap in self.gaps:
            if COMMANDS[gap.following] != name or gap.ticks < 1:
                continue
            before = COMMANDS[gap.preceding]
            depth = self.depth[gap.level]
            if "ab" in before or "ab" in name:
                depth = min(depth, self.scope)
            if gap.sibling:
                nodes = {p[:depth] for p in self.places if p[: depth - 1] == place[: depth - 1]} - {place[:depth]}
            else:
                nodes = {place[:depth]}
            for node in nodes:
                ticks = self.past[node, before]
                if len(ticks) >= gap.count:
                    at = max(at, ticks[-gap.count] + gap.ticks)
        return at

    def under(self, place: Place) -> list[Place]:
        return [p for p in self.places if p[: len(place)] == place]

    def send(self, tick: int, name: str, place: Place, request: Request | None) -> None:
        for depth in range(len(place) + 1):
            self.past[place[:depth], name].append(tick)
        self.free[self.bus_of(name)] = tick + self.cycles[name]
        if name == "ACT" and self.bus == "split":
            self.half_open.add(place)
        elif name in ("ACT", "ACT2"):
            assert request is not None
            self.half_open.discard(place)
            self.row[place] = request.row
        elif name in ("PREpb", "PREab", "RDA", "WRA"):
            for p in self.under(place):
                self.row[p] = None
        self.outcome.commands.append((tick, name, place, -1 if request is None else request.number))

    def needed(self, request: Request) -> str:
        """The command that a request needs next."""
        if request.place in self.half_open:
            return "ACT2"
        open_row = self.row[request.place]
        return request.column if open_row == request.row else "ACT" if open_row is None else "PREpb"


def listed(preset: DramPreset, requests: Requests) -> list[Request]:
    parts = decode(preset, requests.address)
    shift = preset.burst.bit_length() - 1
    return [
        Request(
            i,
            tuple(int(parts[level][i]) for level in preset.rules.levels),
            int(parts["row"][i]),
            int(requests.address[i]) >> shift,
            bool(requests.is_write[i]),
            int(requests.arrival[i]),
        )
        for i in range(len(requests))
    ]


class FirstReady:
    """The first-ready controllers, all four command buses."""

    def __init__(self, preset: DramPreset, requests: Requests, figures: tuple[int, ...]) -> None:
        (self.read_size, self.write_size, self.high, self.low, drain, order, self.patience) = figures[:7]
        closes, self.most_hits, merges, passes, self.refresh = figures[7:]
        self.merges, self.passes = bool(merges), bool(passes)
        self.drain, self.order, self.closes = bool(drain), bool(order), bool(closes)
        self.hits: dict[Place, int] = defaultdict(int)
        self.turn = 0
        self.devices = Devices(preset)
        self.todo = listed(preset, requests)
        self.waiting = deque(self.todo)
        self.tried: set[int] = set()
        self.each = preset.refreshed_together if self.refresh == 1 else 1
        self.due = self.interval = self.devices.timing["nREFI"] // self.each if self.refresh < 2 else 2**60
        self.reads: list[Request] = []
        self.writes: list[Request] = []
        self.active: list[Request] = []
        self.activating: list[Request] = []
        self.refreshes: list[Place] = []
        self.writing = False
        self.after_cas: tuple[Request, list[Request]] | None = None
        self.clock_until = 0
        self.rising: tuple[int, Place, str] = (-1, (), "")
        self.tick = 0

    def play(self) -> Outcome:
        while True:
            self.offer()
            left = self.reads + self.writes + self.active + self.activating
            if not self.waiting and not (self.drain and left):
                return self.devices.outcome
            self.step()

    def offer(self) -> None:
        """The next request may come in."""
        if self.waiting and self.waiting[0].arrival <= self.tick and self.take(self.waiting[0]):
            self.devices.outcome.last_taken = self.waiting.popleft().taken

    def step(self) -> None:
        """The commands of a tick."""
        devices = self.devices
        self.tick += 1
        if self.tick == self.due:
            nodes = sorted({p[: devices.scope] for p in devices.places})
            self.due += self.interval
            self.refreshes += [devices.under(node)[self.turn] if self.each > 1 else node for node in nodes]
            self.turn = (self.turn + 1) % self.each
        if devices.bus in ("dual", "half"):
            self.slot("column")
            self.slot("row")
        elif devices.bus == "split":
            self.split()
        else:
            self.slot("both")

    def take(self, request: Request) -> bool:
        first = request.number not in self.tried
        self.tried.add(request.number)
        held = [w for w in self.writes if w.address == request.address] if first or self.order else []
        if request.is_write and not self.merges:
            held = []
        if self.order and not held:
            same = [r for r in self.active + self.activating + self.reads if r.address == request.address]
            if same and request.is_write:
                return False
            held = [r for r in same if r.is_write]
        queue, size = (self.writes, self.write_size) if request.is_write else (self.reads, self.read_size)
        if not held and len(queue) >= size:
            return False
        request.taken = self.tick
        if held:
            self.answer(request, self.tick + 1)
        else:
            queue.append(request)
        return True

    def answer(self, request: Request, tick: int) -> None:
        request.done = tick
        if not request.is_write:
            self.devices.outcome.answered.append(request.number)

    def held(self, name: str, place: Place) -> bool:
        """Whether a command would close a row before the request that it was opened for is served."""
        if name not in ("PREpb", "PREab"):
            return False
        places = [r.place for r in self.active] + list(self.devices.half_open)
        return any(p[: len(place)] == place for p in places)

    def on_edge(self, name: str, place: Place) -> bool:
        """Whether the clock's edge is one for the command."""
        devices = self.devices
        if devices.bus == "half" and self.tick % 2 == 0:
            if name not in ("PREpb", "PREab"):
                return False
            edge, other, before = self.rising
            if edge == self.tick and other[: devices.scope] == place[: devices.scope]:
                return "ab" not in before and name == "PREpb" and place != other
        return True

    def choose(self, buses: str) -> tuple[str, Place, Request | None, list[Request]] | None:
        devices = self.devices

        def ready(name: str, place: Place) -> bool:
            fits = buses == "both" or devices.bus_of(name) == buses
            return fits and self.on_edge(name, place) and devices.earliest(name, place) <= self.tick

        def goes(name: str, place: Place) -> bool:
            return ready(name, place) and not self.held(name, place)

        if buses != "row":
            now = [r for r in self.active if goes(r.column, r.place)]
            if now:
                best = min(now, key=lambda r: r.number)
                return best.column, best.place, best, self.active
        kept: Place | None = None
        if self.refreshes:
            place = self.refreshes[0]
            shut = all(devices.row[p] is None and p not in devices.half_open for p in devices.under(place))
            name = "REFab" if shut else "PREab"
            if self.refresh == 1:
                name, kept = ("REFpb" if shut else "PREpb"), place
            if goes(name, place):
                return name, place, None, []
            if self.refresh == 0:
                return None
        if self.writing:
            self.writing = not (len(self.writes) <= self.low and self.reads)
        else:
            self.writing = len(self.writes) >= self.high or not self.reads
        queue = self.writes if self.writing else self.reads
        for request in queue:
            name = devices.needed(request)
            if name == "ACT2" or (name == "ACT" and self.activating) or request.place == kept:
                continue
            older = (r for r in queue[: queue.index(request)] if r.place == request.place and r.row != request.row)
            if name == request.column and self.hits[request.place] >= self.most_hits and any(older):
                continue
            oldest = queue[0]
            if (
                self.tick - oldest.taken > self.patience
                and request.place == oldest.place
                and name == request.column
                and devices.needed(oldest) != oldest.column
            ):
                continue
            if goes(name, request.place):
                return name, request.place, request, queue
            if not self.passes and ready(name, request.place):
                return None
        return None

    def slot(self, buses: str) -> None:
        choice = self.choose(buses)
        if choice is not None:
            self.send(*choice)

    def send(self, name: str, place: Place, request: Request | None, queue: list[Request]) -> None:
        devices = self.devices
        if devices.bus == "half" and self.tick % 2 == 1 and name not in COLUMN:
            self.rising = (self.tick + (3 if name == "ACT" else 1), place, name)
        if request is None:
            devices.send(self.tick, name, place, None)
            if name in ("REFab", "REFpb"):
                self.refreshes.pop(0)
            return
        if not request.begun:
            request.begun = True
            open_row = devices.row[place]
            devices.outcome.hits += open_row == request.row
            devices.outcome.misses += open_row is None
            devices.outcome.conflicts += open_row not in (None, request.row)
        if name in ("RD", "WR"):
            self.hits[place] += 1
            others = [r for r in self.reads + self.writes if r.row == request.row] + self.active
            if self.closes and not any(r.place == place for r in others if r is not request):
                devices.send(self.tick, name + "A", place, request)
            else:
                devices.send(self.tick, name, place, request)
        else:
            devices.send(self.tick, name, place, request)
        if name == "ACT":
            self.hits[place] = 0
        if name in ("RD", "WR"):
            latency = devices.timing["nCL" if name == "RD" else "nCWL"]
            if name == "RD" and devices.preset.standard.endswith("GDDR7"):
                latency += 1 + devices.timing["nDQERL"]
            burst = devices.timing.get("nBL", devices.timing.get("nBL_min", 0))
            if devices.bus == "split":
                self.clock_until = max(self.clock_until, self.tick + latency + burst + devices.timing["nWCKPST"])
            queue.remove(request)
            self.answer(request, self.tick + latency + burst)
        elif name in ("ACT", "ACT2"):
            queue.remove(request)
            if name == "ACT" and devices.bus == "split":
                request.deadline = self.tick + devices.timing["nAAD"]
                self.activating.append(request)
            else:
                self.active.append(request)

    def split(self) -> None:
        """LPDDR5: ACT2 in time, and CAS before the first burst after the data clock stopped."""

        def complete() -> None:
            nearest = min(self.activating, key=lambda r: (r.deadline, r.number))
            self.send("ACT2", nearest.place, nearest, self.activating)

        if self.after_cas is not None:
            request, queue = self.after_cas
            self.after_cas = None
            self.send(request.column, request.place, request, queue)
            return
        nearest = min((r.deadline for r in self.activating), default=2**60)
        choice = None if nearest <= self.tick else self.choose("both")
        if choice is None:
            if self.activating:
                complete()
            return
        name, place, request, queue = choice
        if name in ("RD", "WR") and self.tick >= self.clock_until:
            if nearest <= self.tick + 1:
                complete()
                return
            self.devices.send(self.tick, f"CAS_{name}", place, request)
            assert request is not None
            self.after_cas = (request, queue)
            return
        self.send(*choice)


class PerBank:
    """The controller with a queue for each bank."""

    def __init__(self, preset: DramPreset, requests: Requests, figures: tuple[int, ...]) -> None:
        self.size, self.per_bank, self.above, self.most_hits = figures
        self.devices = Devices(preset)
        self.todo = listed(preset, requests)
        self.transactions: dict[bool, list[Request]] = {False: [], True: []}
        self.queues: dict[Place, list[Request]] = {p: [] for p in self.devices.places}
        self.hits = dict.fromkeys(self.devices.places, 0)
        self.together: dict[int, list[Request]] = {}
        self.turn = 0
        self.draining = 0
        self.refreshes: list[Place] = []
        self.in_flight = 0
        self.last = 0
        self.tick = 0

    def play(self) -> Outcome:
        devices, waiting = self.devices, list(self.todo)
        nodes = sorted({p[: devices.scope] for p in devices.places})
        interval = devices.timing["nREFI"] // len(nodes)
        while waiting or self.in_flight or self.tick <= self.last:
            if self.tick and self.tick % interval == 0:
                self.refreshes.append(nodes[(self.tick // interval - 1) % len(nodes)])
            self.send()
            self.schedule()
            self.tick += 1
            if waiting and waiting[0].arrival < self.tick and self.take(waiting[0]):
                waiting.pop(0)
                devices.outcome.last_taken = self.tick - 1
        return devices.outcome

    def pending(self, request: Request, is_write: bool) -> Request | None:
        for other in self.transactions[is_write] + self.queues[request.place]:
            if other.address == request.address and other.is_write == is_write:
                return other
        return None

    def take(self, request: Request) -> bool:
        if len(self.transactions[request.is_write]) >= self.size:
            return False
        request.taken = self.tick
        if self.pending(request, True):
            request.done = self.tick + 1
            if not request.is_write:
                self.devices.outcome.answered.append(request.number)
                self.last = max(self.last, request.done)
            return True
        if not request.is_write:
            self.in_flight += 1
            other = self.pending(request, False)
            if other is not None:
                self.together.setdefault(other.number, []).insert(0, request)
                return True
        self.transactions[request.is_write].append(request)
        return True

    def schedule(self) -> None:
        queued = any(self.queues.values())
        writes = self.transactions[True]
        if self.draining == 0 and (len(writes) >= self.size or (len(writes) > self.above and not queued)):
            self.draining = len(writes)
        if not self.draining:
            self.move(False)
        elif self.move(True) == "blocked":
            self.draining = 0
            if not queued and len(writes) > min(self.above, self.size - 1):
                self.move(False)

    def move(self, is_write: bool) -> str:
        """Move the first transaction whose bank has room."""
        for request in self.transactions[is_write]:
            if len(self.queues[request.place]) < self.per_bank:
                if is_write and self.pending(request, False):
                    return "blocked"
                self.draining -= is_write
                self.queues[request.place].append(request)
                self.transactions[is_write].remove(request)
                return "moved"
        return "none"

    def ready(self, place: Place, free: dict[str, int]) -> tuple[str, Request] | None:
        devices, queue = self.devices, self.queues[place]
        for slot, request in enumerate(queue):
            name = devices.needed(request)
            bus = devices.bus_of(name)
            now_free, devices.free[bus] = devices.free[bus], free[bus]
            at = devices.earliest(name, place)
            devices.free[bus] = now_free
            if at > self.tick:
                continue
            if name == "PREpb":
                hits = any(r.row == devices.row[place] for r in queue)
                if slot > 0 or (hits and self.hits[place] < self.most_hits):
                    continue
                devices.outcome.conflicts += 1
            if name == "WR" and any(r.address == request.address and not r.is_write for r in queue[:slot]):
                continue
            return name, request
        return None

    def send(self) -> None:
        devices, free = self.devices, dict(self.devices.free)
        barred: Place | None = None
        names: list[str] = []
        for turn in range(2 if devices.bus == "dual" else 1):
            name, place, request = "", (), None
            if turn == 0 and self.refreshes:
                barred = self.refreshes[0]
                name, place = self.refresh(barred)
            if not name:
                for step in range(1, len(devices.places) + 1):
                    number = (self.turn + step) % len(devices.places)
                    place = devices.places[number]
                    if barred is not None and place[: devices.scope] == barred:
                        continue
                    found = self.ready(place, free)
                    if found is not None:
                        self.turn = number
                        name, request = found
                        break
                else:
                    return
            if turn == 1 and (name in ("RD", "WR")) == (names[0] in ("RD", "WR")):
                return
            names.append(name)
            self.do(name, place, request)
            if name == "REFab":
                barred = None

    def refresh(self, node: Place) -> tuple[str, Place]:
        devices = self.devices
        shut = 0
        for place in devices.under(node):
            if devices.row[place] is not None:
                if devices.earliest("PREpb", place) <= self.tick:
                    return "PREpb", place
            elif devices.earliest("REFab", node) <= self.tick:
                shut += 1
        return ("REFab", node) if shut == len(devices.under(node)) else ("", ())

    def do(self, name: str, place: Place, request: Request | None) -> None:
        devices = self.devices
        if name in ("RD", "WR"):
            assert request is not None
            devices.outcome.hits += self.hits[place] > 0
            self.hits[place] += 1
            self.queues[place].remove(request)
            request.done = self.tick + (
                devices.read_latency if name == "RD" else devices.timing["nCWL"] + devices.timing["nBL"]
            )
            if name == "RD":
                for answered in [request, *self.together.pop(request.number, [])]:
                    answered.done = request.done
                    devices.outcome.answered.append(answered.number)
                    self.in_flight -= 1
                self.last = max(self.last, request.done)
        elif name == "PREpb":
            self.hits[place] = 0
        elif name == "REFab":
            self.refreshes.pop(0)
        devices.send(self.tick, name, place, request)
