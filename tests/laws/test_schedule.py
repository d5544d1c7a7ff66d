"""The recursion, folded or not, equals the event-driven simulation to the last tick."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from depth import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.model.lowered import Lowered
from archsim.model.memory import Sharing
from archsim.sim.judge import judged
from archsim.sim.rank import play
from archsim.sim.rank_table import play as play_compiled
from archsim.sim.schedule import OutOfOrder, Schedule, in_turns, schedule
from archsim.sim.segment import simulate, together
from archsim.sim.setting import Setting
from archsim.timebase import Timebase
from archsim.workloads.op import Collective, Op
from archsim.workloads.program import Segment
from archsim.workloads.task import Job, Task

ENGINES = ("mxu", "vpu", "hbm")
MEMORIES = ("hbm", "cmem")
ticks = st.integers(1, 40)


@st.composite
def lowered_op(draw, index):
    engine = draw(st.sampled_from(ENGINES))
    after = None
    if index and draw(st.integers(0, 4)) == 0:
        after = tuple(draw(st.sets(st.sampled_from([f"op{i}" for i in range(index)]), max_size=2)))
    body = {engine: draw(st.integers(1, 40))}
    if draw(st.integers(0, 3)) == 0:
        body["vpu" if engine == "mxu" else "mxu"] = draw(ticks)  # attention: array and vector unit together
    prefetch, fill, drain = {}, {}, {}
    for memory in MEMORIES:
        if draw(st.booleans()):
            body[memory] = draw(ticks)
        if draw(st.booleans()):
            t = draw(st.integers(1, 40))
            prefetch[memory] = (t, draw(st.integers(0, t)))
        if draw(st.booleans()):
            fill[memory] = draw(ticks)
        if draw(st.booleans()):
            drain[memory] = draw(ticks)
    return Lowered(Op(name=f"op{index}", after=after), engine, body, prefetch, fill, drain, draw(st.integers(0, 5)))


@st.composite
def program(draw):
    blocks = []
    for _ in range(draw(st.integers(1, 3))):
        count = draw(st.integers(1, 4))
        blocks.append(([draw(lowered_op(i)) for i in range(count)], draw(st.integers(1, 9))))
    return blocks


def simulate_step(blocks, grains=None):
    """The judge's answer for one step on a rank."""
    segment = Segment("step", ())
    job = Job("step", (Task(0, "program", "step", segment),))
    world = judged(job, Setting(Timebase(), None, grains or {}, lambda rank, segment: blocks))
    return world.pieces[0].times[0][0]


def copies(times):
    """(block, op, copy) to (start, end, exposed), folded records spread out."""
    return {
        (r.block, r.op, r.first + j): (r.start + j * r.period, r.end + j * r.period, r.exposed)
        for r in times.ops
        for j in range(r.copies)
    }


@settings(max_examples=examples(300), deadline=None)
@given(program())
def test_the_recursion_equals_the_events(blocks):
    truth = simulate_step(blocks)
    try:
        folded, plain = schedule(blocks), schedule(blocks, fold=False)
    except OutOfOrder:
        return  # the event-driven simulation is the answer
    assert copies(plain) == copies(truth)
    assert copies(folded) == copies(truth)
    assert folded.step_ticks == plain.step_ticks == truth.step_ticks
    assert sum(r.copies * r.exposed for r in folded.ops) == truth.step_ticks


def length(blocks, begun):
    """Ticks of all blocks after some that have begun; None where they are out of order."""
    segment = begun.copied()
    try:
        for ops, repeat in in_turns(blocks):
            segment.add(ops, repeat)
        return segment.times().step_ticks
    except OutOfOrder:
        return None


@settings(max_examples=examples(200), deadline=None)
@given(program(), st.integers(1, 4), st.booleans())
def test_blocks_in_turns_are_as_long_as_one_by_one_and_may_begin_alike(blocks, turns, chain):
    if chain:
        blocks = [([replace(op, op=Op(name=op.op.name)) for op in ops], repeat) for ops, repeat in blocks]
    every = blocks * turns + blocks[:1]
    try:
        truth = schedule(every, fold=False).step_ticks
    except OutOfOrder:
        truth = None
    begun = Schedule(told=False)
    assert length(every, begun) == truth
    for ops, repeat in every[:2]:
        begun.add(ops, repeat)
    assert length(every[2:], begun) == truth
    assert length(every[2:], begun) == truth  # what went on from it has not changed it


@settings(max_examples=examples(200), deadline=None)
@given(program())
def test_a_chain_of_ops_is_always_in_order(blocks):
    chain = [([replace(op, op=Op(name=op.op.name)) for op in ops], repeat) for ops, repeat in blocks]
    assert copies(schedule(chain)) == copies(simulate_step(chain))


def test_a_long_repetition_is_simulated_a_few_times_only():
    op = Lowered(Op(name="a"), "mxu", {"mxu": 10, "hbm": 7}, {"hbm": (3, 1)})
    times = schedule([([op], 1000)])
    assert times.copies_simulated <= 4
    assert times.step_ticks == simulate_step([([op], 1000)]).step_ticks


@settings(max_examples=examples(100), deadline=None)
@given(program(), st.integers(2, 5))
def test_lanes_are_the_steps_one_by_one(blocks, lanes):
    scale = np.arange(1, lanes + 1)
    wide = [
        ([replace(op, body={s: t * scale for s, t in op.body.items()}) for op in ops], repeat) for ops, repeat in blocks
    ]
    try:
        together = schedule(wide)
    except OutOfOrder:
        return
    for lane in range(lanes):
        alone = simulate_step([([op.at(lane) for op in ops], repeat) for ops, repeat in wide])
        steps = np.broadcast_to(together.step_ticks, (lanes,))
        assert steps[lane] == alone.step_ticks


@settings(max_examples=examples(200), deadline=None)
@given(program(), st.sampled_from([{}, {"hbm": Sharing(3)}, {"hbm": Sharing(1), "cmem": Sharing(5, first=2)}]))
def test_op_by_op_equals_the_judge(blocks, grains):
    assert copies(play(blocks, grains)) == copies(simulate_step(blocks, grains))


@st.composite
def beside_each_other(draw):
    """A program of several steps whose ops are in streams, some of them collectives, some asking for nothing."""
    streams = st.sampled_from(draw(st.sampled_from([(None,), ("a", "b"), (None, "a", "b", "c")])))
    steps = draw(st.integers(1, 3))

    def change(op):
        scale = np.array(draw(st.lists(st.integers(0, 3), min_size=steps, max_size=steps))) if steps > 1 else 1
        body = {server: t * scale for server, t in op.body.items()} if draw(st.booleans()) else op.body
        what = replace(op.op, stream=draw(streams))
        if draw(st.integers(0, 5)) == 0:
            what = Collective(**vars(what), collective="all_reduce", bytes=1, ranks=2)
            body = {"network": draw(ticks)}
        return replace(op, op=what, engine="network" if isinstance(what, Collective) else op.engine, body=body)

    return [([change(op) for op in ops], repeat) for ops, repeat in draw(program())], steps


@settings(max_examples=examples(400), deadline=None)
@given(
    beside_each_other(),
    st.sampled_from(
        [{}, {"hbm": Sharing(3)}, {"hbm": Sharing(1), "cmem": Sharing(5, first=2)}, {"cmem": Sharing(2, first=1)}]
    ),
)
def test_the_compiled_rank_equals_the_one_op_by_op(made, grains):
    blocks, steps = made
    each = [play([([op.at(step) for op in ops], repeat) for ops, repeat in blocks], grains) for step in range(steps)]
    truth, compiled = together(each), play_compiled(blocks, steps, grains)
    assert compiled.content() == truth.content()
    assert np.array_equal(compiled.step_ticks, truth.step_ticks)
    assert compiled.copies_simulated == truth.copies_simulated


def test_what_does_not_fit_the_compiled_rank_is_played_by_the_other_one():
    op = Lowered(Op(name="a", stream="a"), "mxu", {"mxu": 1 << 50})
    with pytest.raises(OverflowError):
        play_compiled([([op], 5000)], 1, {})
    assert simulate([([op], 5000)], 1, {}).step_ticks == 5000 << 50
    assert simulate([([op], 5000)], 2, {}).step_ticks.tolist() == [5000 << 50] * 2
    assert play_compiled([([op], 4000)], 1, {}).step_ticks == 4000 << 50


def two_streams(one, other, grains):
    """Ends of two ops that begin together on engines of their own, (computing, memory) ticks each."""
    ops = [
        Lowered(Op(name=name, after=(), stream=name), name, {name: computing, "hbm": memory})
        for name, (computing, memory) in (("a", one), ("b", other))
    ]
    return tuple(record.end for record in simulate_step([(ops, 1)], grains).ops)


def test_streams_share_a_memory_in_turns():
    turns = {"hbm": Sharing(50)}
    assert two_streams((16_000, 0), (10, 1_600), turns) == (16_000, 1_600)
    # Two that wait for the memory get half of it each, until the smaller has all it asked for.
    assert two_streams((10, 1_600), (10, 1_600), turns) == (3_150, 3_200)
    assert two_streams((10, 6_400), (10, 1_600), turns) == (8_000, 3_200)
    assert two_streams((10, 100), (10, 6_400), turns) == (150, 6_500)
    # By priority the other one has a grain in four while both wait.
    assert two_streams((10, 1_500), (10, 6_400), {"hbm": Sharing(50, first=3)}) == (1_950, 7_900)
    # First come, first served, the later one waits for all of the first.
    assert two_streams((10, 6_400), (10, 1_600), {}) == (6_400, 8_000)
