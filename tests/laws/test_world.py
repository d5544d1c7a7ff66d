"""The world equals its judge to the tick, on random graphs of tasks."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import pytest
from depth import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.components.network.graph_network import GraphNetwork, GraphNetworkSpec
from archsim.components.network.network import Network, NetworkSpec
from archsim.errors import InputError
from archsim.model.lowered import Lowered
from archsim.model.memory import Sharing
from archsim.sim.critical import critical_path
from archsim.sim.judge import judge
from archsim.sim.setting import Setting
from archsim.sim.world import play
from archsim.timebase import Timebase
from archsim.workloads.op import Collective, Op
from archsim.workloads.program import Segment
from archsim.workloads.task import After, GroupCollective, Job, Loop, Pause, Receive, Send, Task

ENGINES = ("mxu", "vpu", "hbm")
MEMORIES = ("hbm", "ddr")
TIME = Timebase([10**12])
RANKS = 4


def network(topology="switch", **link):
    """Four ranks with links of a byte a tick."""
    spec = {"kind": "link", "bandwidth": "1 TB/s", "latency": "3 ps", "source": "a test", **link}
    return Network(
        NetworkSpec.model_validate({"dimensions": [{"topology": topology, "ranks": RANKS, "link": spec}]}),
        "network",
        TIME,
    )


def graph(topology, routing="shortest", algorithms=None, **link):
    """A graph with links of a byte a tick."""
    spec = {"kind": "link", "bandwidth": "1 TB/s", "latency": "3 ps", "source": "a test", **link}
    spec = {"topology": topology, "link": spec, "routing": routing, "algorithms": algorithms or {}, "launch": "2 ps"}
    return GraphNetwork(GraphNetworkSpec.model_validate(spec), "network", TIME)


NETWORKS = {
    "switch": network(),
    "ring": network("ring"),
    "credits": network(credits="3 B"),
    "half": network(duplex="half"),
    "torus": graph("torus:2x2", "dimension_order"),
    "mesh": graph("mesh:4", algorithms={"all_reduce": "direct"}),
    "fat tree": graph("fattree:4x2x2", "ecmp", {"all_reduce": "halving_doubling"}, credits="3 B"),
    "half mesh": graph("mesh:2x2", "adaptive", {"all_reduce": "double_binary_tree"}, duplex="half"),
}


@st.composite
def lowered(draw, index, net, streams):
    stream = draw(st.sampled_from(("a", "b"))) if streams else None
    after = None
    if index and draw(st.integers(0, 3)) == 0:
        after = tuple(draw(st.sets(st.sampled_from([f"op{i}" for i in range(index)]), max_size=2)))
    name = f"op{index}"
    if draw(st.integers(0, 4)) == 0:
        ranks, n_bytes = draw(st.sampled_from((2, 4))), draw(st.integers(1, 40))
        if net == "ring":
            ranks = 4
        op = Collective(name=name, after=after, stream=stream, collective="all_reduce", bytes=n_bytes, ranks=ranks)
        ticks = int(NETWORKS[net].time_of(op)[0])
        return Lowered(op, "network", {"network": ticks}, actions={("network", "link0_byte"): n_bytes})
    engine = draw(st.sampled_from(ENGINES))
    body = {engine: draw(st.integers(0, 20))}
    if draw(st.integers(0, 3)) == 0:
        body["vpu" if engine == "mxu" else "mxu"] = draw(st.integers(1, 20))
    prefetch, fill, drain = {}, {}, {}
    for memory in MEMORIES:
        if draw(st.booleans()):
            body[memory] = draw(st.integers(0, 20))
        if draw(st.integers(0, 2)) == 0:
            ticks = draw(st.integers(0, 20))
            prefetch[memory] = (ticks, draw(st.integers(0, ticks + 3)))
        if draw(st.integers(0, 2)) == 0:
            fill[memory] = draw(st.integers(0, 20))
        if draw(st.integers(0, 2)) == 0:
            drain[memory] = draw(st.integers(0, 20))
    op = Op(name=name, after=after, stream=stream)
    actions = {(engine, "mac"): draw(st.integers(1, 9))}
    return Lowered(op, engine, body, prefetch, fill, drain, draw(st.integers(0, 5)), actions)


@st.composite
def piece(draw, net):
    streams = draw(st.integers(0, 3)) == 0
    blocks = []
    for _ in range(draw(st.integers(1, 2))):
        count = draw(st.integers(1, 3))
        blocks.append(([draw(lowered(i, net, streams)) for i in range(count)], draw(st.integers(1, 3))))
    return Segment(draw(st.sampled_from("xyz")), (), steps=draw(st.integers(1, 3))), blocks


@st.composite
def jobs(draw):
    """Streams of pieces, pauses, messages and collectives that can all end: each waits for earlier ones only.

    Pieces with collectives of several ranks stand on a class of all four.
    """
    net = draw(st.sampled_from(sorted(NETWORKS)))
    folded = draw(st.booleans())
    pieces = draw(st.lists(piece(net), min_size=1, max_size=3))
    blocks = {id(segment): lowered for segment, lowered in pieces}
    alone = [s for s, b in pieces if not any(isinstance(op.op, Collective) for ops, _ in b for op in ops)]
    ranks = (0,) if folded else range(RANKS)
    tasks, known = [], []
    for number in range(draw(st.integers(1, 12))):
        rank = draw(st.sampled_from(ranks))
        stream = draw(st.sampled_from(("s", "t", "u")))
        after = tuple(After(n, r) for r, n in draw(st.sets(st.sampled_from(known), max_size=2))) if known else ()
        name = f"t{number}"
        kind = draw(st.sampled_from(("piece", "piece", "piece", "pause", "message", "collective")))
        if kind == "piece" and (folded or alone):
            segment = draw(st.sampled_from([s for s, _ in pieces] if folded else alone))
            tasks.append(Task(rank, stream, name, segment, after))
        elif kind == "message" and not folded:
            to = draw(st.sampled_from([r for r in ranks if r != rank]))
            tasks.append(Task(rank, stream, name, Send(to, draw(st.integers(0, 40)), name), after))
            tasks.append(Task(to, draw(st.sampled_from("stu")), f"{name}.in", Receive(rank, name)))
            known.append((to, f"{name}.in"))
        elif kind == "collective":
            n_bytes, group = draw(st.integers(1, 40)), range(RANKS)
            if not folded and net != "ring":
                group = draw(st.sampled_from((range(RANKS), range(0, RANKS, 2), range(2, RANKS), range(2))))
            what = GroupCollective(draw(st.sampled_from(("all_reduce", "all_to_all"))), n_bytes, group, name)
            for member in (0,) if folded else group:
                tasks.append(Task(member, stream, name, what, after if member == rank else ()))
                known.append((member, name))
            continue
        else:
            tasks.append(
                Task(rank, stream, name, Pause(draw(st.integers(0, 40)), draw(st.sampled_from(("", "dma")))), after)
            )
        known.append((rank, name))
    job = Job("random", tuple(tasks), {0: range(RANKS)} if folded else {})
    grains = draw(st.sampled_from(({}, {"hbm": Sharing(3)}, {"hbm": Sharing(1), "ddr": Sharing(7, first=2)})))
    return job, Setting(TIME, NETWORKS[net], grains, lambda rank, segment: blocks[id(segment)])


class Scripted:
    """Gives tasks of a list in turn: each once so many tasks have ended, and not before a time."""

    def __init__(self, script):
        self.script, self.ended, self.answered = list(script), 0, []

    def tasks(self, now_ps, done):
        self.ended += len(done)
        if done:
            self.answered.append((now_ps, sorted((one.task.name, tuple(one.ends_ps)) for one in done)))
        given = []
        while self.script and self.script[0][0] <= self.ended and self.script[0][1] <= now_ps:
            given.append(self.script.pop(0)[2])
        later = self.script[0][1] if self.script and self.script[0][0] <= self.ended + len(given) else None
        return given, later if later is not None and later > now_ps else None

    def answers(self):
        return self.answered


@st.composite
def scripted(draw):
    """A job whose tasks come from a source, streams sharing a rank or the ranks of a class."""
    job, setting = draw(jobs().filter(lambda drawn: all(not isinstance(t.what, Receive) for t in drawn[0].tasks)))
    script, kept = [], []
    for task in job.tasks:
        if isinstance(task.what, Segment | Pause) and draw(st.booleans()):
            until = draw(st.none() | st.integers(0, 80))
            script.append((draw(st.integers(0, 3)), draw(st.integers(0, 60)), replace(task, until_ps=until)))
        else:
            kept.append(task)
    return Job("scripted", tuple(kept), job.classes, lambda: Scripted(script)), setting


def world_ops(times, job):
    """(rank, step, block, op, copy, start, end) of all ops of the described ranks, each as often as it ran."""
    found = defaultdict(int)
    for piece in times.pieces:
        for one, count in piece.times:
            for r in one.ops:
                for step in range(piece.segment.steps):

                    def pick(value, step=step):
                        return int(value[step]) if getattr(value, "ndim", 0) else int(value)

                    for j in range(r.copies):
                        start, end = pick(r.start) + j * pick(r.period), pick(r.end) + j * pick(r.period)
                        found[piece.rank, step, r.block, r.op, r.first + j, end - start] += count
    return dict(found)


def equals(times, verdict):
    seen = {}
    for task in times.tasks:
        for number, start, end in task.each():
            for member in times.job.members(task.task.rank):
                seen[member, task.task.name, number] = (start, end)
    assert seen == verdict.tasks


@settings(max_examples=examples(400), deadline=None)
@given(jobs())
def test_the_world_equals_the_judge(drawn):
    job, setting = drawn
    verdict = judge(job, setting)
    if len(verdict.tasks) < sum(len(job.members(task.rank)) for task in job.tasks):
        with pytest.raises(InputError, match="nothing will ever begin"):
            play(job, setting)
        return
    times = play(job, setting)
    equals(times, verdict)
    judged = defaultdict(int)
    for op in verdict.ops:
        if op.rank in {task.task.rank for task in times.tasks}:
            judged[op.rank, op.step, op.block, op.op, op.copy, op.end - op.start] += 1
    assert world_ops(times, job) == dict(judged)


@settings(max_examples=examples(200), deadline=None)
@given(scripted())
def test_the_world_equals_the_judge_where_a_source_gives_tasks(drawn):
    job, setting = drawn
    verdict = judge(job, setting)
    try:
        times = play(job, setting)
    except InputError:  # what waits for a task that the source never gave
        assert len(verdict.tasks) < sum(len(job.members(t.rank)) for t in (*job.tasks, *verdict.given))
        return
    assert verdict.source.answers() == times.source.answers()
    assert play(job.unfolded(), setting).ticks == times.ticks
    for task in times.tasks:
        for member in times.job.members(task.task.rank):
            assert verdict.tasks[member, task.task.name, task.number] == (task.start, task.end)
    assert len(verdict.tasks) == sum(len(times.job.members(t.task.rank)) for t in times.tasks)


@st.composite
def rounds(draw):
    """Rounds of two streams on one class of ranks, the same few again and again, each after all of the one before."""
    net = draw(st.sampled_from(("switch", "ring", "torus")))
    pieces = draw(st.lists(piece(net), min_size=1, max_size=3))
    blocks = {id(segment): lowered for segment, lowered in pieces}
    lengths = st.tuples(st.integers(1, 3), st.integers(1, 3))
    whats = [segment for segment, _ in pieces] + [Pause(draw(st.integers(0, 9))) for _ in range(2)]
    longest = [draw(st.lists(st.sampled_from(whats), min_size=3, max_size=3)) for _ in "st"]
    kinds = [[work[:n] for work, n in zip(longest, draw(lengths), strict=True)] for _ in range(3)]
    tasks = []
    for number, kind in enumerate(draw(st.lists(st.sampled_from(kinds), min_size=2, max_size=6))):
        for stream, work in zip("st", kind, strict=True):
            after = tuple(After(f"{other}{number - 1}.last") for other in "st") if number else ()
            for i, what in enumerate(work):
                name = f"{stream}{number}.{'last' if i == len(work) - 1 else i}"
                tasks.append(Task(0, stream, name, what, () if i else after))
    grains = draw(st.sampled_from(({}, {"hbm": Sharing(3)}, {"hbm": Sharing(1), "ddr": Sharing(7, first=2)})))
    job = Job("rounds", tuple(tasks), {0: range(RANKS)})
    return job, Setting(TIME, NETWORKS[net], grains, lambda rank, segment: blocks[id(segment)])


@settings(max_examples=examples(160), deadline=None)
@given(rounds())
def test_what_pieces_did_together_before_they_do_again(drawn):
    job, setting = drawn
    equals(play(job, setting), judge(job, setting))


@st.composite
def looping(draw):
    """A ring of ranks that pass messages on, over and over, each with work beside it; some with a prologue."""
    net = draw(st.sampled_from(("switch", "ring")))
    pieces = []
    for _ in range(3):
        engine = draw(st.sampled_from(("mxu", "vpu")))
        ops = [
            Lowered(Op(name="op"), engine, {engine: draw(st.integers(1, 30))}, drain={"hbm": draw(st.integers(0, 9))})
        ]
        pieces.append((Segment("p", ()), [(ops, draw(st.integers(1, 3)))]))
    blocks = {id(segment): lowered for segment, lowered in pieces}
    stages, times = draw(st.integers(1, RANKS)), draw(st.integers(1, 40))
    tasks = []
    for rank in range(stages):
        ahead = draw(st.integers(0, min(times, 3)))
        work = Task(rank, "s", "work", draw(st.sampled_from(pieces))[0], (After("in"),) if rank else ())
        back = Task(rank, "s", "back", draw(st.sampled_from(pieces))[0], (After("home"),) if rank < stages - 1 else ())
        tasks += [Loop((work,), ahead)] if ahead else []
        tasks += [Loop((work, back), times - ahead)] if times > ahead else []
        tasks += [Loop((back,), ahead)] if ahead else []
        if rank:
            tasks.append(Loop((Task(rank, "i", "in", Receive(rank - 1, "a")),), times))
            tasks.append(
                Loop((Task(rank, "g", "give", Send(rank - 1, draw(st.integers(1, 40)), "b"), (After("back"),)),), times)
            )
        if rank < stages - 1:
            tasks.append(
                Loop((Task(rank, "o", "out", Send(rank + 1, draw(st.integers(1, 40)), "a"), (After("work"),)),), times)
            )
            tasks.append(Loop((Task(rank, "h", "home", Receive(rank + 1, "b")),), times))
        if draw(st.booleans()):
            pause = Task(
                rank, "p", "pause", Pause(draw(st.integers(1, 50))), (After("work", back=draw(st.integers(0, 1))),)
            )
            tasks.append(Loop((pause,), times))
        if draw(st.booleans()):
            tasks.append(Task(rank, "s", "end", draw(st.sampled_from(pieces))[0]))
    return Job("loops", tuple(tasks)), Setting(TIME, NETWORKS[net], {}, lambda rank, segment: blocks[id(segment)])


@settings(max_examples=examples(300), deadline=None)
@given(looping())
def test_periods_that_are_counted_equal_the_judge(drawn):
    job, setting = drawn
    verdict = judge(job, setting)
    total = sum(item.times * len(item.tasks) if isinstance(item, Loop) else 1 for item in job.tasks)
    if len(verdict.tasks) < total:
        with pytest.raises(InputError, match="nothing will ever begin"):
            play(job, setting)
        return
    times = play(job, setting)
    equals(times, verdict)
    assert times.ticks == verdict.ticks
    path = critical_path(times, job.first_of())
    assert sum(stretch.ticks for stretch in path) == times.ticks
    assert sum(count for piece in times.pieces for _, count in piece.times) == sum(
        task.copies for task in times.tasks if task.times is not None
    )


def crossing(times, *sizes):
    """Two ranks that keep sending to a third, each message begun before the one before it has arrived."""
    streams = [
        (
            Loop((Task(rank, "beat", "beat", Pause(14)),), times),
            Loop((Task(rank, "out", "out", Send(2, size, f"{rank}"), (After("beat"),)),), times),
            Loop((Task(2, f"in{rank}", f"in{rank}", Receive(rank, f"{rank}")),), times),
        )
        for rank, size in enumerate(sizes)
    ]
    return Job("crossing", tuple(loop for loops in streams for loop in loops))


@pytest.mark.parametrize("sizes", [(5, 5), (5, 6), (7, 7)])
def test_sends_that_never_stop_meeting_are_counted_too(sizes):
    setting = Setting(TIME, NETWORKS["switch"], {}, lambda rank, segment: [])
    short = crossing(40, *sizes)
    equals(play(short, setting), judge(short, setting))
    world = play(crossing(10**6, *sizes), setting)
    assert len(world.tasks) < 1000


def test_a_long_loop_is_played_a_few_times_only():
    segment = Segment("p", ())
    ops = [([Lowered(Op(name="op"), "mxu", {"mxu": 70})], 1)]
    times = 10**6
    job = Job(
        "long",
        (
            Loop((Task(0, "s", "work", segment),), times),
            Loop((Task(0, "o", "out", Send(1, 5, ""), (After("work"),)),), times),
            Loop((Task(1, "i", "in", Receive(0, "")),), times),
            Loop((Task(1, "s", "work", segment, (After("in"),)),), times),
        ),
    )
    world = play(job, Setting(TIME, NETWORKS["switch"], {}, lambda rank, segment: ops))
    assert len(world.tasks) < 200
    alone = NETWORKS["switch"].send(0, 1, 5).ticks
    assert world.ticks == (times + 1) * 70 + alone
