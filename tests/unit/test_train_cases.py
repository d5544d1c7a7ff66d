"""Steps of training asked alone: by options, and by files of cases."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from depth import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.alone.sheet import ask, ask_file
from archsim.alone.train import QUESTION
from archsim.config import shipped
from archsim.errors import InputError
from archsim.training.cases import setup_of
from archsim.training.held import parameters_of
from archsim.training.setup import dealt
from archsim.training.step import few_passes, step
from archsim.training.timeline import timeline
from archsim.workloads.step.cut import LAID, Cut
from archsim.workloads.step.ends import layer_parameters
from archsim.workloads.step.kinds import kinds_of

ROW = {
    "gpus": "8",
    "global_batch": "32",
    "micro_batch": "4",
    "hidden": "1024",
    "heads": "16",
    "layers": "24",
    "seq": "1024",
    "tp": "2",
    "dp": "2",
    "pp": "2",
}


def test_options_and_a_file_give_the_same_answer(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    columns = list(reversed(ROW))
    file.write_text(",".join(columns) + ",iteration_ms\n" + ",".join(ROW[c] for c in columns) + ",219.7\n")
    (row,) = ask_file(QUESTION, {}, file).rows
    alone = ask(QUESTION, ROW)
    assert row["given_iteration_ms"] == "219.7"
    assert row["iteration_ms"] == alone["iteration_ms"] > 0
    assert row["peak_memory_bytes"] == alone["peak_memory_bytes"] > 0


def test_replicas_are_what_is_left_of_the_gpus() -> None:
    without = {name: text for name, text in ROW.items() if name != "dp"}
    assert ask(QUESTION, without)["iteration_ms"] == ask(QUESTION, ROW)["iteration_ms"]


def test_a_row_that_cannot_be_answered_says_why_and_leaves_the_others(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    bad = {**ROW, "tp": "3"}
    lines = [",".join(ROW), ",".join(bad.values()), ",".join(ROW.values())]
    file.write_text("\n".join(lines) + "\n")
    answered = ask_file(QUESTION, {}, file)
    assert "heads do not divide among 3 ranks: 2 or 4 would" in answered.rows[0]["error"]
    assert answered.rows[1]["iteration_ms"] > 0
    assert answered.problems


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"gpus": "12"}, "are 8, not 12: with dp 3 they are"),
        ({"gpus": "9", "dp": ""}, "do not divide 9 GPUs: 3 or 9 would"),
        ({"pp": "32", "gpus": "128"}, "are more than the 24 layers"),
        ({"global_batch": "33"}, "33 sequences do not divide .* 32 or 40 would"),
        ({"precision": "fp7"}, "no precision is called 'fp7'"),
        ({"precision": "fp8"}, "does not multiply fp8"),
        ({"recompute": "some"}, "expected none, selective or full"),
        ({"zero": "3"}, "ZeRO 3"),
        ({"schedule": "2f1b"}, "no schedule is called '2f1b'"),
        ({"device": "a1000"}, "no chip is called 'a1000'"),
        ({"hidden": ""}, "is missing"),
        ({"hidden": "0"}, "expected a whole number from 1"),
        ({"gpus": "eight"}, "expected a whole number from 1 to .*, not 'eight'"),
        ({"gpus": "1073741824", "dp": ""}, "sequences do not divide"),
        ({"system": "dgx_a100", "gpus": "16", "dp": "4"}, "DGX A100 is one node of 8 GPUs, not 16"),
        ({"system": "tpu_v4_cube_graph", "device": "a100_sxm"}, "has no network of dimensions"),
        ({"layers": "99999999"}, "are more than the 16384"),
        ({"zero": "4"}, "expected ZeRO stage 0, 1, 2 or 3"),
        ({"ep": "2"}, "has no experts: 1 would do"),
        ({"cp": "3", "gpus": "24"}, "tokens do not divide among 3 ranks"),
        ({"sharding": "SOME"}, "expected one of FULL_SHARD"),
        ({"framework": "megatron"}, "no framework is called 'megatron'"),
        ({"stages": "12,13"}, "2 pieces of 25 layers in all are not the 2 of the 24 layers"),
        ({"stages": "8,8,8"}, "3 pieces of 24 layers in all are not the 2 of the 24 layers"),
        ({"stages": "12,x"}, "expected layers of each stage, such as 5,3,3, not '12,x'"),
        ({"schedule": "v_half", "vp": "3"}, "a stage of 'v_half' has 2 parts, not 3"),
        ({"schedule": "zero_bubble", "vp": "2"}, "a stage of 'zero_bubble' has 1 part, not 2"),
        ({"schedule": "dualpipe", "pp": "3", "gpus": "12"}, "take an even number of stages, not 3"),
        ({"schedule": "dualpipe", "global_batch": "24"}, "are an even number, 4 or more, not 3: 4 would do"),
        ({"vocab_parallel": "3"}, "once or twice, not 3 times"),
        ({"vocab_parallel": "1", "schedule": "dualpipe"}, "one chain of several stages shares a vocabulary"),
        ({"vp": "2", "global_batch": "24"}, "interleaved stages take micro-batches by the 2 stages, and there are 3"),
    ],
)
def test_bad_input_is_one_clear_error(changed: dict[str, str], said: str) -> None:
    case = {name: text for name, text in {**ROW, **changed}.items() if text}
    with pytest.raises(InputError, match=said):
        ask(QUESTION, case)


def test_cells_of_published_tables_are_understood() -> None:
    """The first of two numbers counts, n/a is nothing, names are told by their letters and digits."""
    plain = {"model": "llama-3-70b", "system": "DGX-GB200", "gpus": "64", "global_batch": "128", "micro_batch": "2"}
    asked = {**plain, "fsdp": "64 (0)", "tp": "1 (2)", "vp": "n/a", "precision": "FP8-CS (FP8-MX)"}
    same = {**plain, "model": "LLAMA3_70B", "fsdp": "64", "tp": "1", "precision": "fp8"}
    assert ask(QUESTION, asked)["iteration_ms"] == ask(QUESTION, same)["iteration_ms"]


def test_more_tensor_ranks_move_more_and_hold_less() -> None:
    few, many = (ask(QUESTION, {**ROW, "tp": tp, "gpus": gpus}) for tp, gpus in (("1", "4"), ("4", "16")))
    assert few["tensor_exchange_ms"] == 0 < many["tensor_exchange_ms"]
    assert many["peak_memory_bytes"] < few["peak_memory_bytes"]
    assert many["products_ms"] < few["products_ms"]


def test_recomputation_takes_time_and_gives_room() -> None:
    none, full = (ask(QUESTION, {**ROW, "recompute": how}) for how in ("none", "full"))
    assert full["iteration_ms"] > none["iteration_ms"]
    assert full["activation_bytes"] < none["activation_bytes"]
    assert full["hfu_pct"] / full["mfu_pct"] == pytest.approx(4 / 3)
    assert none["hfu_pct"] == none["mfu_pct"]


def test_the_parts_of_a_step_are_its_whole() -> None:
    for changed in (
        {},
        {"pp": "1", "dp": "4"},
        {"schedule": "gpipe"},
        {"schedule": "zero_bubble"},
        {"schedule": "dualpipe"},
    ):
        figures = ask(QUESTION, {**ROW, **changed})
        parts = [value for name, value in figures.items() if name.endswith("_ms") and name not in _NOT_PARTS]
        assert sum(parts) == pytest.approx(figures["iteration_ms"], rel=1e-9)


_NOT_PARTS = ("iteration_ms", "forward_ms", "backward_ms")


def test_stages_by_hand_hold_their_layers() -> None:
    """The even ones by hand are those dealt; uneven ones take longer by what the longest one holds more."""
    even, more, less = (ask(QUESTION, {**ROW, "stages": layers}) for layers in ("12,12", "16,8", "20,4"))
    assert ask(QUESTION, ROW)["iteration_ms"] == even["iteration_ms"]
    assert even["iteration_ms"] < more["iteration_ms"] < less["iteration_ms"]
    assert less["products_ms"] / more["products_ms"] == pytest.approx(20 / 16, rel=0.05)
    assert more["peak_memory_bytes"] < less["peak_memory_bytes"]
    assert 20 * more["activation_bytes"] == 16 * less["activation_bytes"]


def test_a_v_has_embedding_and_head_on_one_stage() -> None:
    loop, v = (ask(QUESTION, {**ROW, "schedule": name}) for name in ("1f1b", "v_half"))
    assert loop["table_exchange_ms"] > 0 == v["table_exchange_ms"]
    both = ask(QUESTION, {**ROW, "schedule": "dualpipe"})
    assert 1.7 * loop["weight_bytes"] < both["weight_bytes"] < 2 * loop["weight_bytes"]  # of copies one has the table


def test_a_shared_vocabulary_is_held_and_computed_in_equal_parts() -> None:
    """Rows of both tables on every stage, no bubble for them, and a micro-batch more each time that stages wait."""
    asked = {**ROW, "tp": "1", "pp": "4", "vocab": "65536", "micro_batch": "1", "framework": "megatron_core"}
    own, once, twice = (ask(QUESTION, {**asked, "vocab_parallel": times}) for times in ("0", "1", "2"))
    setup = setup_of({**asked, "vocab_parallel": "1"})
    sizes = [parameters_of(setup, parts)[0] for parts in dealt(setup.model, setup.cut)]
    layer = 12 * 1024**2 + 13 * 1024
    assert sizes == [6 * layer + 65536 // 4 * 1024 + 1024 * 1024 + 2 * 1024] * 4  # tied table, positions, last norm
    assert once["iteration_ms"] == twice["iteration_ms"] < own["iteration_ms"]
    assert once["products_ms"] < own["products_ms"]
    assert once["weight_bytes"] < own["weight_bytes"]
    assert once["table_exchange_ms"] == 0
    kept = 6 * 32 * 1024 * 1024 + 2 * 1024 * 1024 * 2 + 1024 * 65536 // 4 * 6  # 34 sbh without masks; ends, logits
    assert twice["activation_bytes"] - once["activation_bytes"] == pytest.approx(kept, rel=0.03)


def test_messages_cross_nodes_where_stages_do() -> None:
    """Stages of one rank each: over two nodes, one message of a micro-batch and way goes over the ports."""
    asked = {"model": "gpt3-13b", "system": "selene", "precision": "fp16", "global_batch": "20", "micro_batch": "1"}
    setup = setup_of({**asked, "gpus": "20", "pp": "20"})
    size = 2048 * 5120 * 2
    assert setup.fabric.send(size, 6, 7) < setup.fabric.send(size, 7, 8) == setup.fabric.send(size, 0, 8)
    took = {(s, one.direction): end - start for s, one, start, end in few_passes(setup)[0].spans}
    assert took[6, "forward"] < took[7, "forward"] > took[8, "forward"]
    assert took[7, "backward"] < took[8, "backward"] > took[9, "backward"]


def test_a_picture_is_a_whole_svg(tmp_path: Path) -> None:
    from xml.etree import ElementTree

    alone = ask(QUESTION, ROW, {"picture": tmp_path / "p.svg"})
    root = ElementTree.fromstring((tmp_path / "p.svg").read_text())
    passes = [one for one in root.iter() if one.get("class") in ("forward", "backward")]
    assert len(passes) == 2 * 2 * 4  # two stages, four micro-batches, both ways
    assert alone["iteration_ms"] == ask(QUESTION, ROW)["iteration_ms"]


@pytest.mark.parametrize("schedule", ["gpipe", "1f1b", "zero_bubble", "zero_bubble_v", "v_half", "dualpipe"])
def test_what_stages_hold_over_time_is_fullest_where_the_answer_says(schedule: str, tmp_path: Path) -> None:
    """Each stage begins and ends with its states alone; its fullest moment is the one that is counted."""
    asked = {**ROW, "pp": "4", "tp": "1", "micro_batch": "2", "schedule": schedule, "global_batch": "32"}
    setup = setup_of(asked)
    moments = list(timeline(setup, few_passes(setup)[0]))
    for stage, full in enumerate(step(setup).stage_held):
        mine = [one.held for one in moments if one.stage == stage]
        assert mine[0] == mine[-1]
        assert max(one.total for one in mine) == full.total
        assert {replace(one, activations=0) for one in mine} == {replace(full, activations=0)}
    files = {"picture": tmp_path / "p.svg", "memory": tmp_path / "m.csv"}
    ask(QUESTION, asked, files)
    assert len(files["memory"].read_text().splitlines()) == 1 + len(moments)
    assert files["picture"].read_text().count('class="memory"') == 4


@pytest.mark.parametrize("name", shipped("steps"))
def test_shipped_steps_are_answered_and_options_go_before_them(name: str, tmp_path: Path) -> None:
    page = tmp_path / "step.html"
    answer = ask(QUESTION, {"step": name, "usd_per_gpu_h": "2"}, {"report": page})
    tokens = answer["tokens_per_s_per_gpu"]
    assert answer["usd_per_million_tokens"] == pytest.approx(2 / 3600 / tokens * 1e6)
    text = page.read_text()
    assert all(word in text for word in ("Passes", "What a GPU of stage", "peak_memory_bytes"))
    assert answer["iteration_ms"] != ask(QUESTION, {"step": name, "precision": "fp32"})["iteration_ms"]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"step": "gpt3_175b_on_1024_a10"}, "did you mean 'gpt3_175b_on_1024_a100'"),
        ({"usd_per_gpu_h": "two"}, "expected USD an hour"),
        ({"usd_per_gpu_h": "-2"}, "expected USD an hour"),
    ],
)
def test_bad_steps_and_prices_are_refused(columns: dict[str, str], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        ask(QUESTION, {**ROW, **columns})


def test_a_step_of_ones_own_says_what_columns_there_are(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    text = "name: mine\nsource: made up\ncolumns: {model: gpt3-13b, gpu: 8}\n"
    file.write_text(text)
    with pytest.raises(InputError, match=r"no column is called 'gpu'.*'gpus'"):
        ask(QUESTION, {"step": str(file)})


def test_ranks_stand_in_any_order() -> None:
    usual = Cut(8, 1, tensor=4, context=2, data=4, pipeline=2)
    turned = replace(usual, laid=("pp", "dp", "tp", "cp"))
    assert [usual.apart(d) for d in ("tp", "cp", "dp", "pp")] == [1, 4, 8, 32]
    assert [turned.apart(d) for d in ("pp", "dp", "tp", "cp")] == [1, 2, 8, 32]
    assert [usual.inside(8, *group) for group in (("tp",), ("cp", "dp"), ("pp",), ("tp", "cp", "dp"))] == [4, 2, 1, 8]
    assert [turned.inside(8, *group) for group in (("tp",), ("cp", "dp"), ("pp",), ("tp", "cp", "dp"))] == [1, 4, 2, 4]
    row = {**ROW, "gpus": "16", "tp": "8", "pp": "2", "dp": "1", "heads": "16"}
    near, far = ask(QUESTION, row), ask(QUESTION, {**row, "rank_order": "pp-tp-dp-cp"})
    assert near["iteration_ms"] == ask(QUESTION, {**row, "rank_order": "tp-cp-dp-pp"})["iteration_ms"]
    assert far["tensor_exchange_ms"] > near["tensor_exchange_ms"]  # four of its eight ranks in each of two nodes
    assert far["pipeline_exchange_ms"] < near["pipeline_exchange_ms"]
    with pytest.raises(InputError, match="each of tp, cp, dp, pp once"):
        ask(QUESTION, {**row, "rank_order": "tp-pp"})


@settings(max_examples=examples(200), deadline=None)
@given(st.permutations(LAID), st.lists(st.sampled_from([1, 2, 4]), min_size=4, max_size=4), st.sampled_from([4, 8]))
def test_ranks_of_a_group_in_a_node_are_those_that_stand_there(laid: list[str], sizes: list[int], node: int) -> None:
    tensor, context, data, pipeline = sizes
    cut = Cut(8, 1, tensor=tensor, context=context, data=data, pipeline=pipeline, laid=tuple(laid))
    for group in (("tp",), ("cp", "dp"), ("tp", "cp", "dp"), ("pp",)):
        places = [0]
        for dimension in group:
            each = dict(zip(LAID, sizes, strict=True))[dimension]
            places = [place + i * cut.apart(dimension) for place in places for i in range(each)]
        assert cut.inside(node, *group) == sum(place < node for place in places)


def test_hybrid_shards_meet_near_and_their_copies_far() -> None:
    row = {"model": "llama-3-70b", "device": "h100_sxm", "gpus": "64", "global_batch": "128", "micro_batch": "2"}
    row |= {"framework": "mpt_fsdp", "sharding": "FULL_SHARD", "recompute": "full"}
    whole, same, nodes = (ask(QUESTION, row | more) for more in ({}, {"fsdp": "64"}, {"fsdp": "8"}))
    assert same["iteration_ms"] == whole["iteration_ms"]
    assert nodes["weight_bytes"] == pytest.approx(8 * whole["weight_bytes"])
    setup = setup_of(row | {"fsdp": "8"})
    fabric, size = setup.fabric, sum(layer_parameters(setup.layers, kinds_of(setup.model)[0])) * setup.layers.e
    forward = fabric.seconds("all_gather", size, 8)
    backward = forward + fabric.seconds("reduce_scatter", size, 8) + fabric.seconds("all_reduce", size / 8, 8, 1)
    moved_s = setup.model.layers * (forward + backward) * setup.cut.micro_batches
    assert nodes["shard_exchange_ms"] == pytest.approx(1e3 * moved_s * setup.framework.contention, rel=1e-6)
    with pytest.raises(InputError, match="3 ranks that share parameters do not divide 64 replicas: 2 or 4 would"):
        ask(QUESTION, row | {"fsdp": "3"})
