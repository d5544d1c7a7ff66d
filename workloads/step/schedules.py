"""The schedules that ship, each by its paper."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from archsim.errors import Problem
from archsim.workloads.step.schedule import Direction, Pass, Place, Schedule, VShape


class GPipe(Schedule):
    """All forward, then all backward (GPipe, NeurIPS 2019)."""

    recurs = False

    def passes(self, stage: int, stages: int, parts: int, micro_batches: int) -> list[Pass]:
        forward = [Pass("forward", part, m) for part in range(parts) for m in range(micro_batches)]
        return forward + [Pass("backward", part, m) for part in reversed(range(parts)) for m in range(micro_batches)]


class OneForwardOneBackward(Schedule):
    """As few micro-batches in flight as the stages behind need; of several parts, interleaved (SC 2021)."""

    def passes(self, stage: int, stages: int, parts: int, micro_batches: int) -> list[Pass]:
        if parts == 1:
            ahead = min(stages - 1 - stage, micro_batches)
            return _alternating(ahead, micro_batches, lambda i: (0, i), lambda i: (0, i))
        total = micro_batches * parts
        ahead = min(2 * (stages - stage - 1) + (parts - 1) * stages, total)

        def place(i: int) -> tuple[int, int]:
            turn, within = divmod(i, stages * parts)
            return within // stages, turn * stages + within % stages

        def back(i: int) -> tuple[int, int]:
            part, micro_batch = place(i)
            return parts - 1 - part, micro_batch

        return _alternating(ahead, total, place, back)

    def problems(self, stages: int, parts: int, micro_batches: int) -> Iterator[Problem]:
        if parts > 1 and micro_batches % stages:
            yield Problem(
                f"interleaved stages take micro-batches by the {stages} stages, and there are {micro_batches}: "
                f"{micro_batches // stages * stages or stages} or {-(-micro_batches // stages) * stages} would do",
                path="global_batch",
            )


def _alternating(
    ahead: int, total: int, place: Callable[[int], tuple[int, int]], back: Callable[[int], tuple[int, int]]
) -> list[Pass]:
    order = [Pass("forward", *place(i)) for i in range(ahead)]
    for i in range(total - ahead):
        order += (Pass("forward", *place(ahead + i)), Pass("backward", *back(i)))
    return order + [Pass("backward", *back(i)) for i in range(total - ahead, total)]


class ZeroBubble(Schedule):
    """1F1B whose gradients of weights wait until nothing else can run (ZB-H1, arXiv 2401.10241)."""

    parts = 1

    def passes(self, stage: int, stages: int, parts: int, micro_batches: int) -> list[Pass]:
        order, waiting = list[Pass](), deque[Pass]()
        for one in OneForwardOneBackward().passes(stage, stages, 1, micro_batches):
            if one.direction == "forward":
                order.append(one)
                continue
            order.append(one._replace(direction="inputs"))
            waiting.append(one._replace(direction="weights"))
            if len(waiting) > stage:  # later stages put off as many as fill their tail
                order.append(waiting.popleft())
        return [*order, *waiting]


class VHalf(VShape):
    """Half of 1F1B's activations: a block of passes, six lengths after each other (arXiv 2405.15362, V-Half).

    Of a micro-batch the passes of stage i are 2i, then by one back over the stages, then by two and by one again; where
    that leaves a stage nothing to do, gradients of weights run. The paper then moves passes of the first and last
    micro-batches into what is left free, which here stays.
    """

    def passes(self, stage: int, stages: int, parts: int, micro_batches: int) -> list[Pass]:
        more = 0 if stages % 2 else 3  # so that no two passes of a stage are at one time
        block: tuple[tuple[Direction, int, int], ...] = (
            ("forward", 0, 2 * stage),
            ("forward", 1, 3 * stages - stage - 2),
            ("inputs", 1, 3 * stages + more + 2 * stage - 1),
            ("inputs", 0, 6 * stages + more - stage - 2),
        )
        timed = sorted((at + 6 * m, Pass(way, part, m)) for way, part, at in block for m in range(micro_batches))
        order, waiting, free = list[Pass](), deque[Pass](), 0
        for at, one in timed:
            for _ in range(min(at - free, len(waiting))):
                order.append(waiting.popleft())
            order.append(one)
            free = at + 1
            if one.direction == "inputs":
                waiting.append(one._replace(direction="weights"))
        return [*order, *waiting]


class ZeroBubbleV(VShape):
    """No bubble but that of the first pass down the stages, with the memory of 1F1B (ZB-V, arXiv 2401.10241).

    The order is that of stages which take, of equal passes, what is ready: forward and inputs in turn where both are,
    forward up the V before down it, with no more than all stages' activations; gradients of weights else.
    """

    def orders(self, stages: int, parts: int, micro_batches: int) -> list[list[Pass]]:
        return _Greedy(stages, micro_batches).orders()


_Kind = tuple[Direction, int]
_TURNS: dict[_Kind, _Kind] = {
    ("forward", 1): ("forward", 0),
    ("inputs", 1): ("forward", 1),
    ("inputs", 0): ("inputs", 1),
}
"""What goes before the passes of a part at the ends of the V, on the same stage."""


class _Greedy:
    """Stages of equal passes, moment after moment."""

    def __init__(self, stages: int, micro_batches: int) -> None:
        self.stages, self.micro_batches = stages, micro_batches
        self.made: list[list[Pass]] = [[] for _ in range(stages)]
        kinds: list[_Kind] = [("forward", 0), *_TURNS]
        self.next = [dict.fromkeys(kinds, 0) for _ in range(stages)]
        self.waiting: list[deque[Pass]] = [deque() for _ in range(stages)]
        self.held = [0] * stages

    def orders(self) -> list[list[Pass]]:
        """Of all stages."""
        while any(len(order) < 6 * self.micro_batches for order in self.made):
            for stage, one in [(stage, self._choice(stage)) for stage in range(self.stages)]:
                if one is not None:
                    self._take(stage, one)
        return self.made

    def _choice(self, stage: int) -> Pass | None:
        """What a stage does with what is done by now."""
        forward = back = None
        room = 2 * self.stages - self.held[stage]
        if room > 0 and self._ready(stage, "forward", 1):
            forward = Pass("forward", 1, self.next[stage]["forward", 1])
        elif room > 1 and self._ready(stage, "forward", 0):  # the last place is for those on their way up
            forward = Pass("forward", 0, self.next[stage]["forward", 0])
        for part in (1, 0):
            if self._ready(stage, "inputs", part):
                back = Pass("inputs", part, self.next[stage]["inputs", part])
        if forward is not None and back is not None:
            before = next((one for one in reversed(self.made[stage]) if one.direction != "weights"), back)
            return forward if before.direction == "inputs" else back
        return back or forward or (self.waiting[stage][0] if self.waiting[stage] else None)

    def _ready(self, stage: int, way: Direction, part: int) -> bool:
        """Whether the next pass of a kind has what it waits for."""
        m = self.next[stage][way, part]
        if m == self.micro_batches:
            return False
        down = (part == 0) == (way == "forward")  # from stage to stage, or back up
        before = stage - 1 if down else stage + 1
        if 0 <= before < self.stages:
            return self.next[before][way, part] > m
        turned = _TURNS.get((way, part))
        return turned is None or self.next[stage][turned] > m

    def _take(self, stage: int, one: Pass) -> None:
        self.made[stage].append(one)
        if one.direction == "weights":
            self.waiting[stage].popleft()
            self.held[stage] -= 1
            return
        self.next[stage][one.direction, one.part] += 1
        if one.direction == "forward":
            self.held[stage] += 1
        else:
            self.waiting[stage].append(one._replace(direction="weights"))


class DualPipe(Schedule):
    """Micro-batches from both ends at once, each over a copy of the layers (DeepSeek-V3, arXiv 2412.19437).

    The phases are those of deepseek-ai/DualPipe. A forward and a backward pass that it runs as one take here as long as
    one after the other; what of their exchanges is hidden by computing is the framework's to say.
    """

    parts = 2
    chains = 2

    def place(self, stage: int, part: int, stages: int) -> Place:
        return super().place(stage, 0, stages) if part == 0 else Place(1, stages - 1 - stage)

    def problems(self, stages: int, parts: int, micro_batches: int) -> Iterator[Problem]:
        if stages % 2:
            yield Problem(f"micro-batches from both ends take an even number of stages, not {stages}", path="pp")
        elif micro_batches % 2 or micro_batches < 2 * stages:
            most = max(2 * stages, micro_batches + 1)
            yield Problem(
                f"micro-batches from both ends of {stages} stages are an even number, {2 * stages} or more, not "
                f"{micro_batches}: {most} would do",
                path="global_batch",
            )

    def passes(self, stage: int, stages: int, parts: int, micro_batches: int) -> list[Pass]:
        near, far = (0, 1) if stage < stages // 2 else (1, 0)  # parts whose micro-batches come from this end, or that
        inner = min(stage, stages - 1 - stage)
        outer = stages // 2 - 1 - inner
        made = _Both(near, far)
        made.forward(near, 2 * outer)
        for _ in range(inner + 1):
            made.forward(near).forward(far)
        for _ in range(outer):
            made.inputs(far).weights().forward(far)
        for turn in range(micro_batches // 2 - stages + inner + 1):
            made.forward(near, joined=turn > 0 or outer > 0).backward(far).forward(far, joined=True).backward(near)
        for _ in range(outer):
            made.backward(far).forward(far, joined=True).backward(near)
        for i in range(inner + 1):
            # The second half of these puts off weights, from the middle one of 2 (inner + 1) passes on.
            for j, part in enumerate((far, near)):
                (made.inputs if 2 * i + j > inner else made.backward)(part)
        for _ in range(outer):
            made.weights().inputs(near)
        return made.weights(inner + 1).order


class _Both:
    """An order of two parts whose micro-batches are counted as they come."""

    def __init__(self, *parts: int) -> None:
        self.order: list[Pass] = []
        self.waiting: deque[Pass] = deque()
        self.next = {(back, part): 0 for back in (False, True) for part in parts}

    def _add(self, direction: Direction, part: int, joined: bool = False) -> Pass:
        back = direction != "forward"
        one = Pass(direction, part, self.next[back, part], joined)
        self.next[back, part] += 1
        self.order.append(one)
        return one

    def forward(self, part: int, times: int = 1, joined: bool = False) -> _Both:
        for _ in range(times):
            self._add("forward", part, joined)
        return self

    def backward(self, part: int) -> _Both:
        self._add("backward", part)
        return self

    def inputs(self, part: int) -> _Both:
        self.waiting.append(self._add("inputs", part)._replace(direction="weights"))
        return self

    def weights(self, times: int = 1) -> _Both:
        for _ in range(times):
            self.order.append(self.waiting.popleft())
        return self
