"""The timeline: a Chrome trace that Perfetto opens."""

import json
from collections import defaultdict
from itertools import pairwise

import numpy as np
import pytest
from shipped import shipped

import archsim
from archsim.report import lanes, timeline

RUNS = (
    "llama_3_8b_on_tpu_v4i",
    "mixtral_8x7b_on_dgx_h100",
    "deepseek_r1_decode_on_cloudmatrix384",
    "t3_t_nlg_sublayers_tp8",
)


@pytest.fixture(scope="module", params=RUNS)
def result(request):
    return shipped(request.param)


@pytest.fixture(scope="module")
def trace(result):
    return json.loads(timeline.to_perfetto(result))


def in_program_order(result):
    """Whether all ops follow each other; of streams beside each other only the ops are drawn, not what they hold."""
    ops = (op.lowered.op for segment in result.segments for block in segment.blocks for op in block.ops)
    return all(op.stream is None for op in ops)


def slices_by_track(trace):
    tracks = defaultdict(list)
    for event in trace["traceEvents"]:
        if event["ph"] == "X":
            tracks[event["pid"], event["tid"]].append((round(1e3 * event["ts"]), round(1e3 * event["dur"])))
    return tracks


def test_slices_of_a_track_do_not_overlap(trace):
    for mine in slices_by_track(trace).values():
        for (start, duration), (after, _) in pairwise(mine):
            assert start + duration <= after


def test_every_track_and_process_is_named_once(trace):
    named = [(e["pid"], e["tid"]) for e in trace["traceEvents"] if e["name"] == "thread_name"]
    assert len(named) == len(set(named))
    assert set(slices_by_track(trace)) == set(named)
    processes = [e["pid"] for e in trace["traceEvents"] if e["name"] == "process_name"]
    assert {1, 2, 3} <= set(processes)
    assert len(processes) == len(set(processes))


def test_events_are_ordered_and_within_the_run(result, trace):
    events = [e for e in trace["traceEvents"] if e["ph"] != "M"]
    assert [e["ts"] for e in events] == sorted(e["ts"] for e in events)
    assert {e["ph"] for e in events} >= {"X", "C"}
    assert all(e["dur"] >= 0 for e in events if e["ph"] == "X")
    last = max(e["ts"] + e.get("dur", 0.0) for e in events)
    assert last == pytest.approx(1e6 * result.time_s, abs=1e-2)


def test_a_timeline_is_the_same_every_time(result):
    assert timeline.to_perfetto(result) == timeline.to_perfetto(archsim.run(result.spec))


def test_counters_stay_below_the_bandwidth_and_end_at_zero(result, trace):
    tracks = defaultdict(list)
    for event in trace["traceEvents"]:
        if event["ph"] == "C" and event["name"].endswith(" bandwidth"):
            tracks[event["name"].removesuffix(" bandwidth")].append(event["args"]["GB/s"])
    assert bool(tracks) == in_program_order(result)
    for path, values in tracks.items():
        assert max(values) <= result.machine.memories[path].bytes_per_s / 1e9 + 1e-3
        assert values[-1] == 0


def test_resources_are_held_as_long_as_the_result_says(result):
    """First and last step of each phase: the holds drawn are all there are."""
    held = defaultdict(float)
    for row in timeline.slices(result):
        if row["group"] == timeline.RESOURCES:
            held[row["label"].partition("/")[0], row["track"]] += row["duration_s"]
    expected = defaultdict(float)
    for segment in result.segments:
        for step in {0, segment.steps - 1}:
            where = segment.name if segment.steps == 1 else f"{segment.name} step {step}"
            for block in segment.blocks:
                for op in block.ops:
                    for path, ticks in op.lowered.busy().items():
                        at = int(ticks[step]) if isinstance(ticks, np.ndarray) else ticks
                        expected[where, path] += result.machine.time.seconds(at) * block.repeat
    if not in_program_order(result):
        expected.clear()
    assert {k: v for k, v in held.items() if v} == pytest.approx({k: v for k, v in expected.items() if v})


def test_holds_lie_within_their_op(result):
    ops = {}
    for row in timeline.slices(result):
        if row["group"] == timeline.OPS:
            ops[row["label"]] = row["start_s"], row["start_s"] + row["duration_s"]
    for row in timeline.slices(result):
        if row["group"] == timeline.RESOURCES:
            start, end = ops[row["label"]]
            assert row["start_s"] + row["duration_s"] <= end + 1e-12 or row["phase"] == "prefetch"
            assert row["phase"] == "prefetch" or row["start_s"] >= start - 1e-12


def test_share_of_time():
    share = timeline.busy_share([0.0, 2.0, 5.0], [1.0, 4.0, 6.0], [0.0, 2.0, 4.0, 8.0])
    assert share.tolist() == [0.5, 1.0, 0.25]
    assert timeline.busy_share([], [], [0.0, 1.0]).tolist() == [0.0]


def test_overlapping_ops_go_to_sub_tracks():
    op = shipped("t3_t_nlg_sublayers_tp8").segments[0].blocks[0].ops[0]
    spans = [(0, 10), (5, 15), (10, 20), (12, 13)]
    drawn = [timeline.Slice(timeline.OPS, "chip.x", "op", "p/op", "run", a, b, op, 0) for a, b in spans]
    assert [lane for _, lane in timeline._lanes(drawn)] == [0, 1, 0, 2]


def test_windows_show_one_layer(trace):
    steps = lanes.read(trace)
    for where in lanes.chosen(steps):
        name, start, end = lanes.window(steps[where])
        assert start < end
        inside = [e for e in steps[where] if e.group == timeline.OPS and start <= e.start < end]
        if name != "all of it":
            assert name in {e.block for e in inside}


def test_each_phase_is_drawn_once():
    result = shipped("samba_coe_on_sn40l_node")
    picked = lanes.chosen(lanes.read(json.loads(timeline.to_perfetto(result))))
    assert len(picked) <= 6
    assert len({lanes.fold_name(where.partition(" step ")[0]) for where in picked}) == len(picked)
