"""Laws of a training step: FLOPs, bytes, memory, bubbles; and its shortcuts against the world and naive twins."""

from __future__ import annotations

import pytest
from depth import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.config import load_spec
from archsim.errors import InputError
from archsim.sim.setting import Setting
from archsim.sim.world import play
from archsim.timebase import Timebase
from archsim.training.pieces import EMPTY, Piece
from archsim.training.pipeline import chains_of, flying, in_flight, run
from archsim.training.pipeline import play as one_by_one
from archsim.workloads.model import ModelSpec
from archsim.workloads.step.cut import Cut
from archsim.workloads.step.ends import layer_parameters
from archsim.workloads.step.framework import FrameworkSpec
from archsim.workloads.step.kinds import Kind
from archsim.workloads.step.layer import Layers
from archsim.workloads.step.memory import layer_activations, states
from archsim.workloads.step.schedule import Pass, Schedule, orders_of, schedule_of
from archsim.workloads.step.work import Exchange, Product, flops
from archsim.workloads.task import After, Job, Pause, Task

LAYER = Kind("attention", "dense")
MEGATRON = load_spec("megatron_lm", FrameworkSpec, category="frameworks")


def gpt(hidden=1024, heads=16, layers=24, seq=512):
    """A GPT with biases."""
    return ModelSpec.model_validate(
        {
            "name": "gpt",
            "hidden": hidden,
            "heads": heads,
            "layers": layers,
            "intermediate": 4 * hidden,
            "vocab": 50304,
            "max_positions": seq,
            "norm": "layernorm",
            "mlp": "plain",
            "activation": "gelu",
            "positions": "learned",
            "tied_embeddings": True,
            "qkv_bias": True,
            "out_bias": True,
            "mlp_bias": True,
        }
    )


def layers(tensor=1, micro_batch=4, seq=512, shared=False, framework=MEGATRON, **of_model):
    cut = Cut(micro_batch, micro_batch, tensor=tensor, sequence_parallel=shared)
    return Layers(gpt(seq=seq, **of_model), framework, cut, seq, "fp16")


def done(kernels):
    return sum(flops(kernel.work) for kernel in kernels)


@pytest.mark.parametrize("tensor", [1, 2, 8])
def test_flops_of_a_layer_are_the_closed_form(tensor):
    """24 b s h^2 + 4 b s^2 h forward (SC 2021, appendix), shared by the ranks; twice that backward."""
    b, s, h = 4, 512, 1024
    one = layers(tensor)
    forward = (24 * b * s * h * h + 4 * b * s * s * h) // tensor
    assert done(one.forward(LAYER)) == forward
    assert done(one.backward(LAYER)) == 2 * forward
    assert done(one.again("full", LAYER)) == forward
    assert done(one.again("selective", LAYER)) == 4 * b * s * s * h // tensor
    assert done(one.again("none", LAYER)) == 0


@pytest.mark.parametrize(("tensor", "shared"), [(1, False), (2, False), (8, False), (8, True)])
def test_tensor_parallel_bytes_are_the_closed_form(tensor, shared):
    """A buffer of b s h is summed twice each way; where tokens are shared, each sum is a scatter and a gather."""
    one = layers(tensor, shared=shared)
    both = (*one.forward(LAYER), *one.backward(LAYER))
    sent = [k.work for k in both if isinstance(k.work, Exchange) and not k.beside]
    assert all(work.bytes == 2 * 4 * 512 * 1024 for work in sent)
    assert len(sent) == (0 if tensor == 1 else 8 if shared else 4)


@pytest.mark.parametrize("tensor", [1, 4, 8])
@pytest.mark.parametrize("recompute", ["none", "selective", "full"])
def test_activations_are_those_of_the_paper(tensor, recompute):
    """Korthikanti et al. (arXiv 2205.05198), table 2: with and without sequence parallelism."""
    b, s, h, a = 4, 512, 1024, 16
    sbh, scores = s * b * h, 5 * a * s / h
    for shared in (False, True) if tensor > 1 else (False,):
        one = layers(tensor, shared=shared)
        if recompute == "full":
            expected = 2 * sbh / (tensor if shared else 1)
        else:
            kept = scores if recompute == "none" else 0
            expected = sbh * (34 + kept) / tensor if shared else sbh * (10 + (24 + kept) / tensor)
        assert layer_activations(one, recompute, LAYER) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("stage", "expected"), [(0, (2, 4, 12)), (1, (2, 4, 3)), (2, (2, 1, 3)), (3, (0.5, 1, 3))])
def test_zero_stages_keep_their_shares(stage, expected):
    """ZeRO (arXiv 1910.02054), figure 1, over four ranks; gradients in FP32."""
    parameters = 10_000
    assert states(MEGATRON, 2, parameters, 0, stage, 4, 1) == tuple(round(parameters * part) for part in expected)


def test_parameters_of_a_layer_are_the_closed_form():
    h = 1024
    assert layer_parameters(layers(), LAYER) == (12 * h * h + 13 * h, 0)
    assert layer_parameters(layers(4), LAYER)[0] < (12 * h * h + 13 * h) / 4 + 8 * h


# -- pipelines

SCHEDULES = (
    ("gpipe", 1),
    ("1f1b", 1),
    ("1f1b", 2),
    ("1f1b", 3),
    ("zero_bubble", 1),
    ("zero_bubble_v", 2),
    ("v_half", 2),
)
SCHEDULES += (("dualpipe", 2),)


def played(schedule, stages, parts, micro_batches, lengths):
    return run(schedule, stages, parts, micro_batches, lambda s, one: lengths[one.direction], lambda a, b: 0)


@pytest.mark.parametrize(("stages", "micro_batches"), [(2, 2), (4, 4), (4, 12), (8, 16)])
def test_bubbles_of_equal_stages_are_their_formulas(stages, micro_batches):
    """(p - 1)(F + B); 1/v of it interleaved (SC 2021, section 2.2); (p - 1)(F + B - W) of ZB-H1 (arXiv 2401.10241)."""
    forward, backward, weights = 7, 9, 5
    two = {"forward": forward, "backward": backward + weights}
    for schedule in ("gpipe", "1f1b"):
        ran = played(schedule, stages, 1, micro_batches, two)
        assert ran.end - micro_batches * sum(two.values()) == (stages - 1) * sum(two.values())
    for parts in (2, 3):
        ran = played("1f1b", stages, parts, micro_batches, two)
        assert ran.end - micro_batches * parts * sum(two.values()) == (stages - 1) * sum(two.values())
    three = {"forward": forward, "inputs": backward, "weights": weights}
    ran = played("zero_bubble", stages, 1, micro_batches, three)
    if micro_batches >= 2 * stages - 1:
        assert ran.end - micro_batches * sum(three.values()) == (stages - 1) * (forward + backward - weights)


@pytest.mark.parametrize("stages", [2, 4, 6, 8])
@pytest.mark.parametrize("turns", [2, 3, 14])
def test_bubbles_of_parts_that_stand_as_a_v_are_their_formulas(stages, turns):
    """Of equal passes: the way down of ZB-V alone; V-Half's block (which the paper then makes shorter: 3 p)."""
    equal, micro_batches = {"forward": 5, "inputs": 5, "weights": 5}, stages * turns
    no_bubble = 2 * micro_batches * 15
    assert played("zero_bubble_v", stages, 2, micro_batches, equal).end - no_bubble == 5 * (stages - 1)
    assert played("v_half", stages, 2, micro_batches, equal).end - no_bubble == 5 * (7 * stages // 2 - 2)


@pytest.mark.parametrize("stages", [2, 4, 8])
@pytest.mark.parametrize("turns", [2, 5, 20])
def test_the_bubble_of_dualpipe_is_its_formula(stages, turns):
    """(p/2 - 1)(F&B + B - 3 W) (deepseek-ai/DualPipe), where inputs' gradients take as long as forward passes."""
    forward, inputs, weights = 11, 11, 8
    lengths = {"forward": forward, "inputs": inputs, "weights": weights, "backward": inputs + weights}
    ran = played("dualpipe", stages, 2, stages * turns, lengths)
    whole = forward + inputs + weights
    assert ran.end - stages * turns * whole == (stages // 2 - 1) * (whole + inputs + weights - 3 * weights)


def most(order, parts):
    """Micro-batches of parts in flight, weights' gradients waited for too."""
    return int(flying(order, parts).sum(axis=1).max())


@pytest.mark.parametrize("stages", [2, 4, 6])
def test_micro_batches_in_flight(stages):
    """1F1B p - i; ZB-H1 p on all stages (arXiv 2401.10241); V-Half (p + 2)/2 (arXiv 2405.15362); DualPipe p + 1."""
    count = 2 * stages + 2
    for stage in range(stages):
        assert most(orders_of("1f1b", stages, 1, 9)[stage], 1) == min(stages - stage, 9)
        assert most(orders_of("gpipe", stages, 1, 9)[stage], 1) == 9
        assert most(orders_of("zero_bubble", stages, 1, count)[stage], 1) == stages
        assert most(orders_of("zero_bubble_v", stages, 2, count)[stage], 2) == 2 * stages
        assert most(orders_of("v_half", stages, 2, count)[stage], 2) == stages + 2
        assert most(orders_of("dualpipe", stages, 2, count)[stage], 2) == stages + 1


def test_what_a_stage_holds_is_counted_pass_by_pass():
    """Against sets of micro-batches that are put in and taken out."""
    for schedule, parts in SCHEDULES:
        for order in orders_of(schedule, 4, parts, 8):
            flies, waits, seen = set(), set(), set()
            for direction, part, m, _ in order:
                if direction == "forward":
                    flies.add((part, m))
                elif direction == "weights":
                    waits.remove((part, m))
                else:
                    flies.remove((part, m))
                    waits |= {(part, m)} if direction == "inputs" else set()
                seen.add(tuple(sum(p == part for p, _ in held) for held in (flies, waits) for part in range(parts)))
            assert not flies
            assert not waits
            assert seen == {tuple(int(n) for n in moment) for moment in flying(order, parts)}


def job_of(orders, lengths, hops, chains):
    """The same passes as tasks of a world: pauses on stages, and on links between them, each message its own."""
    tasks = []

    def comes_after(stage, one):
        number, m = chains.number[stage][one.part], one.micro_batch
        way = "forward" if one.direction == "forward" else "backward"
        if one.direction == "weights":
            return [After(f"backward {number} {m}")]
        if number % chains.length == (0 if way == "forward" else chains.length - 1):
            return [] if way == "forward" else [After(f"forward {number} {m}")]
        before = number - 1 if way == "forward" else number + 1
        there = chains.stage[before]
        return [After(f"{way} {before} {m}")] if there == stage else [After(f"{way} goes {before} {m}", there)]

    for stage, order in enumerate(orders):
        links, begun = [], []
        for i, one in enumerate(order):
            pair = order[i : i + 2] if one.joined else [one]
            number, m = chains.number[stage][one.part], one.micro_batch
            way = "backward" if one.direction == "inputs" else one.direction
            name = f"{way} {number} {m}"
            # What is joined begins when all of it can, and has ended when all of it has.
            waits = [after for each in pair for after in comes_after(stage, each)]
            if i and order[i - 1].joined:
                waits = []
            tasks.append(Task(stage, "computing", name, Pause(lengths(stage, one)), tuple(waits)))
            begun.append((way, number, m))
            if one.joined:
                continue
            for way, number, m in begun:
                to = number + 1 if way == "forward" else number - 1
                ends = number % chains.length == (chains.length - 1 if way == "forward" else 0)
                if way != "weights" and not ends and chains.stage[to] != stage:
                    goes = f"{way} goes {number} {m}"
                    links.append(Task(stage, goes, goes, Pause(hops[stage, chains.stage[to]]), (After(name),)))
            begun = []
        tasks += links
    return Job("passes", tuple(tasks))


@settings(max_examples=examples(80), deadline=None)
@given(data=st.data())
def test_a_pipeline_ends_when_the_world_says(data):
    """Stages, parts and messages of any length: the closed form is the world's answer to the picosecond."""
    name, parts = data.draw(st.sampled_from(SCHEDULES))
    stages = data.draw(st.sampled_from([2, 4] if name == "dualpipe" else [2, 3, 4]))
    micro_batches = (
        stages * data.draw(st.integers(1, 3)) if name == "1f1b" and parts > 1 else data.draw(st.integers(1, 7))
    )
    if name == "dualpipe":
        micro_batches = 2 * stages + 2 * data.draw(st.integers(0, 2))
    orders, chains, drawn = orders_of(name, stages, parts, micro_batches), chains_of(name, stages, parts), {}

    def lengths(stage, one: Pass):
        key = stage, one.direction, one.part
        if key not in drawn:
            drawn[key] = data.draw(st.integers(9, 40))
        return drawn[key]

    hops = {(a, b % stages): data.draw(st.integers(0, 9)) for a in range(stages) for b in (a - 1, a + 1)}
    ran = one_by_one(orders, lengths, lambda a, b: hops[a, b], chains, keep=True)
    assert ran[:2] == run(name, stages, parts, micro_batches, lengths, lambda a, b: hops[a, b])[:2]
    time = Timebase()
    world = play(job_of(orders, lengths, hops, chains), Setting(time, None, {}, lambda rank, segment: []))
    ends = [t.start + (t.copies - 1) * t.period + time.ps(t.task.what.ps) for t in world.tasks]
    of_stages = [e for e, t in zip(ends, world.tasks, strict=True) if t.task.stream == "computing"]
    assert max(of_stages) == time.ps(ran.end)
    assert sum(ran.busy) == sum(end - start for _, _, start, end in ran.spans)


@settings(max_examples=examples(150), deadline=None)
@given(data=st.data())
def test_micro_batches_that_recur_are_counted_exactly(data):
    """Many micro-batches, stages of any lengths: counted equals every pass played."""
    schedule, parts = data.draw(st.sampled_from(SCHEDULES[1:]))
    stages = data.draw(st.sampled_from([2, 4] if schedule == "dualpipe" else [2, 3, 4]))
    more = data.draw(st.integers(0, 3)) if schedule != "1f1b" or parts == 1 else 0
    micro_batches = stages * data.draw(st.integers(6, 9)) + (more // 2 * 2 if schedule == "dualpipe" else more)
    directions = ("forward", "backward", "inputs", "weights")
    of = {(s, d, p): data.draw(st.integers(1, 30)) for s in range(stages) for d in directions for p in range(parts)}
    hop = data.draw(st.integers(0, 20))
    orders = orders_of(schedule, stages, parts, micro_batches)

    def lengths(stage, one: Pass):
        return of[stage, one.direction, one.part]

    every = one_by_one(orders, lengths, lambda a, b: hop, chains_of(schedule, stages, parts))
    assert run(schedule, stages, parts, micro_batches, lengths, lambda a, b: hop)[:2] == every[:2]
    few = in_flight(schedule, stages, parts, micro_batches)
    assert [int(one.sum(axis=1).max()) for one in few] == [most(order, parts) for order in orders]


class Backwards(Schedule):
    """Of every micro-batch the passes one after the other; one is forgotten, or there twice."""

    def passes(self, stage, stages, parts, micro_batches):
        both = [Pass(way, 0, m) for m in range(micro_batches) for way in ("forward", "backward")]
        return both[1:] if self.parts == 1 else both + both[:1] if self.parts == 2 else both


def test_passes_of_a_schedule_are_checked(monkeypatch):
    """A pass that is missing or twice, and passes that wait for each other, are told."""
    for parts, wrong in ((1, "is missing"), (2, "is there twice")):
        monkeypatch.setattr(Backwards, "parts", parts)
        monkeypatch.setattr("archsim.workloads.step.schedule.schedule_of", lambda name: Backwards())
        with pytest.raises(InputError, match=f"'wrong', stage 0 of 2: .* {wrong}"):
            orders_of.__wrapped__("wrong", 2, 1, 3)
    monkeypatch.undo()
    orders = [Backwards().passes(s, 2, 1, 3) for s in range(2)]
    assert one_by_one(orders, lambda s, one: 5, lambda a, b: 0, chains_of("1f1b", 2, 1)).end == 3 * 4 * 5
    orders[0].reverse()
    with pytest.raises(InputError, match="wait for each other"):
        one_by_one(orders, lambda s, one: 5, lambda a, b: 0, chains_of("1f1b", 2, 1))
    with pytest.raises(InputError, match=r"no schedule is called 'zero_buble': .*zero_bubble"):
        schedule_of("zero_buble")


# -- pieces


@settings(max_examples=examples(200), deadline=None)
@given(
    kernels=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=8),
    times=st.integers(1, 5),
)
def test_pieces_compose_as_a_queue_of_launches_runs(kernels, times):
    """A host that launches without waiting, and a GPU that runs what is launched: played one by one."""
    piece = EMPTY
    for host, device in kernels:
        piece = piece.then(Piece(host, device, host + device, {"rows": device}, 0))
    whole = piece.times(times)
    launched = free = 0
    for host, device in kernels * times:
        launched += host
        free = max(free, launched) + device
    assert whole.ps == max(free, launched)
    assert whole.parts["rows"] == sum(device for _, device in kernels) * times
    assert piece.then(piece).times(1)[:3] == piece.times(2)[:3]


def test_products_have_the_shapes_of_their_gradients():
    backward = [k.work for k in layers(2).backward(LAYER) if isinstance(k.work, Product) and k.name.startswith("up")]
    t, h, n = 4 * 512, 1024, 2048
    assert [(w.m, w.k, w.n) for w in backward] == [(t, n, h), (n, t, h)]
