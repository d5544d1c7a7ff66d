"""PIM devices asked alone: instruction traces, HBM-PIM, files of cases, bad input."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import pytest
from depth import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.components.pim import aim_system, hbm_pim, instruction_trace
from archsim.components.pim.accounting_aim_simulator import cycles
from archsim.components.pim.command_scheduler import CommandScheduler
from archsim.components.pim.timeline import svg
from archsim.config import load_spec
from archsim.errors import InputError
from archsim.machine import ChipSpec
from archsim.pim import answer

TRACE = """# a product of 16 outputs
AiM WR_GB 64 0 0xffffffff
AiM ISR_WR_BIAS 0 0xffffffff
AiM MAC_ABK 64 0xffffffff 0
AiM RD_MAC 0 0xffffffff
AiM EOC
"""


def trace(tmp_path: Path, text: str = TRACE) -> Path:
    file = tmp_path / "product.trace"
    file.write_text(text)
    return file


def test_an_instruction_trace_is_the_product_that_it_spells(tmp_path: Path) -> None:
    played = answer({"device": "aim", "trace": str(trace(tmp_path))}, log=True)
    product = answer({"device": "aim", "M": "512", "K": "1024"})
    assert played.figures == product.figures
    assert [c.name for c in played.commands].count("MAC") == 64
    assert played.figures["channels_used"] == 32


def test_channels_of_a_mask_play_side_by_side(tmp_path: Path) -> None:
    file = trace(tmp_path, "AiM MAC_ABK 4 0x1 0\nAiM MAC_ABK 8 0x6 3\nAiM EOC\n")
    shares = instruction_trace.streams(instruction_trace.read(file))
    assert sorted((sum(i.columns for i in play), count) for play, count in shares.items()) == [(4, 1), (8, 2)]
    assert answer({"device": "aim", "trace": str(file)}).figures["macs"] == 4 + 2 * 8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("AiM MAC_ABC 4 0x1 0\nAiM EOC\n", "trace:1:1: no instruction is called 'MAC_ABC': did you mean 'MAC_ABK'"),
        ("\nAiM RD_MAC 0\n", "trace:2:1: RD_MAC takes 2 fields"),
        ("AiM RD_MAC 0 x\nAiM EOC\n", "trace:1:1: mask of RD_MAC is a number, not 'x'"),
        ("AiM MAC_ABK 0 0x1 0\nAiM EOC\n", "trace:1:1: columns of MAC_ABK is positive, not 0"),
        ("AiM RD_MAC 0 0x100000000\nAiM EOC\n", "trace:1:1: the mask of RD_MAC has bits for 32 channels"),
        ("LD 0x40\n", "trace:1:1: expected 'AiM NAME"),
        ("AiM RD_MAC 0 0x1\n", "trace:1:1: the trace has no EOC"),
        ("AiM EOC\n", "trace:1:1: the trace is empty"),
        ("AiM MAC_SBK 4 0x1 16 0\nAiM EOC\n", "trace:1:1: bank of MAC_SBK is below 16, not 16"),
        ("AiM WR_ABK 0 0x3 0\nAiM EOC\n", "trace:1:1: WR_ABK writes to one channel, not to those of 0x3"),
        ("R MEM 32 0 0\nAiM EOC\n", "trace:1:1: channel of MEM is below 32, not 32"),
        ("W MEN 3 0 0\nAiM EOC\n", "trace:1:1: no region is called 'MEN': did you mean 'MEM'"),
    ],
)
def test_bad_traces(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        instruction_trace.read(trace(tmp_path, text))


with (Path(__file__).parent / "aim_traces.csv").open(newline="", encoding="utf-8") as rows:
    MIXED = list(csv.DictReader(rows))


@pytest.mark.parametrize("case", MIXED, ids=[f"{case['cycles']} cycles" for case in MIXED])
def test_mixed_traces_are_played_as_the_simulator_does(tmp_path: Path, case: dict[str, str]) -> None:
    """Random instructions, plain reads and writes among them: what github arkhadem/aim_simulator 0f28a07b printed."""
    file = trace(tmp_path, case["lines"].replace(" / ", "\n") + "\nAiM EOC\n")
    counts = {f"commands_{name}": int(count) for name, count in (part.split("=") for part in case["commands"].split())}
    figures = answer({"device": "aim", "trace": str(file)}).figures
    assert figures["cycles"] == int(case["cycles"])
    assert {name: count for name, count in figures.items() if name.startswith("commands_")} == counts


@pytest.mark.slow
def test_any_trace_has_commands_to_read_and_to_draw(tmp_path: Path) -> None:
    played = answer(
        {"device": "aim", "trace": str(trace(tmp_path, MIXED[0]["lines"].replace(" / ", "\n") + "\nAiM EOC\n"))}
    )
    assert played.commands
    assert [c.cycle for c in played.commands] == sorted(c.cycle for c in played.commands)
    every = answer({"device": "aim", "trace": "micro_wrbias_mac_af_rdaf_16banks.trace"}).commands
    picture = svg(every, "all banks", 0, 500)
    assert all(f">{name}</text>" in picture for name in ("WRMAC16", "ACT16", "MAC16", "AF16", "RDAF16", "row open"))


def instructions() -> st.SearchStrategy[instruction_trace.Instruction]:
    """Those of products, for all channels."""
    return st.builds(
        instruction_trace.Instruction,
        name=st.sampled_from(sorted(instruction_trace.PRODUCTS)),
        mask=st.just(2**32 - 1),
        columns=st.sampled_from([1, 2, 33, 64]),
        row=st.integers(0, 2),
    ).map(lambda i: i._replace(columns=i.columns if i.name in ("WR_GB", "MAC_ABK") else 1))


@settings(deadline=None, max_examples=examples(60))
@given(st.lists(instructions(), min_size=1, max_size=12))
def test_products_take_the_same_cycles_with_the_system_and_without(play: list[instruction_trace.Instruction]) -> None:
    """The stream of commands alone, which products and runs use, against the simulator's DMA and controllers."""
    play = [*play, instruction_trace.Instruction("RD_MAC", 2**32 - 1)]
    aim = load_spec("aim", ChipSpec, category="chips").engines["pim"]
    alone = CommandScheduler(aim.timing, 64, refresh=False).issue(instruction_trace.commands(tuple(play)))
    assert aim_system.play(play).cycles == cycles(alone)


def test_channels_of_hbm_pim_count() -> None:
    one, all_ = (answer({"device": "hbm_pim", "M": "512", "K": "512", "channels": n}).figures for n in ("1", "64"))
    plain = answer({"device": "hbm_pim", "M": "512", "K": "512"}).figures
    assert all_ == plain
    assert one["cycles"] == hbm_pim.gemv(512, 512, channels=1).cycles > 4 * plain["cycles"]
    assert one["host_cycles"] > 30 * plain["host_cycles"]  # the host has no more channels than the memory
    added = answer({"device": "hbm_pim", "M": "65536", "operation": "add", "channels": "4"}).figures
    assert added["cycles"] == hbm_pim.elementwise("add", 65536, channels=4).cycles
    assert added["cycles"] > hbm_pim.elementwise("add", 65536).cycles


def test_a_gemv_of_one_channel_takes_the_time_of_its_reads() -> None:
    cycles = hbm_pim.gemv(4096, 1024, channels=1).cycles
    assert cycles == 211_471
    assert cycles > 4096 * 1024 * 2 / 64  # bytes by those of a cycle in all-bank mode


def test_a_missing_trace_of_the_simulators_own_tests_is_made_up() -> None:
    figures = answer({"device": "aim", "trace": "test/micro_wrab_1024_1bank.trace"}).figures
    assert (figures["cycles"], figures["commands_WRA16"], figures["channels_used"]) == (103393, 1024, 1)


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ({}, "device: is missing"),
        ({"device": "aim"}, "M: expected a whole number from 1 to"),
        ({"device": "aim", "M": "0", "K": "4"}, "M: expected a whole number from 1 to .*, not '0'"),
        ({"device": "aim", "M": "4", "K": "4", "operation": "add"}, "only know gemv"),
        ({"device": "hbm_pim", "M": "4", "operation": "sub"}, "no operation is called 'sub'"),
        ({"device": "tpu_v4i", "M": "4", "K": "4"}, "has no PIM channels"),
        ({"device": "aim", "M": "4", "K": "4", "accounting": "aim"}, "known: aim_simulator, hardware"),
    ],
)
def test_bad_cases(case: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        answer(case)


@pytest.mark.slow
def test_refresh_costs_time_on_every_device() -> None:
    for device, size in (("aim", "8192"), ("hbm_pim", "4096"), ("pim_gpt", "8192")):
        case = {"device": device, "M": size, "K": size}
        with_it, without = (answer({**case, "refresh": text}).figures for text in ("true", "false"))
        assert with_it["cycles"] > without["cycles"]
        assert with_it["refreshes"] > without["refreshes"] == 0


def test_hbm_pim_pads_outputs_and_inputs_to_whole_tiles() -> None:
    assert hbm_pim.gemv(1, 1) == hbm_pim.gemv(4096, 128)
    assert hbm_pim.gemv(4097, 128).cycles > hbm_pim.gemv(4096, 128).cycles
    assert hbm_pim.gemv(4096, 129).cycles > hbm_pim.gemv(4096, 128).cycles


@settings(max_examples=examples(20), deadline=None)
@given(st.sampled_from(["tCCDL", "tRCDRD", "tRP", "tWTRL", "WL", "RL", "tRAS", "tWR"]), st.integers(1, 30))
def test_slower_timing_is_never_quicker(name: str, more: int) -> None:
    base = hbm_pim.HBM2
    slower = dataclasses.replace(base, **{name: getattr(base, name) + more})
    assert hbm_pim.gemv(4096, 256, slower).cycles >= hbm_pim.gemv(4096, 256, base).cycles


def test_macs_are_paced_by_the_long_column_gap() -> None:
    # 256 inputs more are two times 64 MACs and 8 writes more, in groups of 8 with 7 gaps; what lies between groups may
    # hide behind other times.
    def more(gap: int) -> int:
        timing = dataclasses.replace(hbm_pim.HBM2, tCCDL=gap, tCCDS=gap)
        counts = [hbm_pim.gemv(4096, k, timing, refresh=False).cycles for k in (256, 512)]
        return counts[1] - counts[0]

    assert 2 * 9 * 7 <= more(6) - more(5) <= 2 * 9 * 8


def test_cases_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from archsim.cli import main

    trace(tmp_path)
    file = tmp_path / "cases.csv"
    file.write_text("device,M,K,trace,cycles\naim,1024,1024,,1\nhbm_pim,4096,1024,,3662\naim,,,product.trace,\n")
    assert main(["pim", "--cases", str(file), "--json"]) == 0
    first, second, third = json.loads(capsys.readouterr().out)
    assert (first["given_cycles"], second["given_cycles"], third["given_cycles"]) == ("1", "3662", "")
    assert first["cycles"] > 600
    assert second["cycles"] == 3662
    assert third["macs"] == 32 * 64


def test_a_bad_row_does_not_lose_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from archsim.cli import main

    file = tmp_path / "cases.csv"
    file.write_text("device,M,K,trace\naim,1024,1024,\naim,,,missing.trace\naim,512,512,\n")
    assert main(["pim", "--cases", str(file), "--json"]) == 2
    captured = capsys.readouterr()
    first, second, third = json.loads(captured.out)
    assert first["cycles"] > third["cycles"] > 0
    assert "cycles" not in second
    assert f"{file}:3:1: {tmp_path}/missing.trace: cannot read it" in captured.err
    assert (first["error"], second["error"]) == (
        "",
        f"{tmp_path}/missing.trace: cannot read it: No such file or directory",
    )


def test_a_picture_of_the_commands(tmp_path: Path) -> None:
    from xml.etree import ElementTree

    commands = answer({"device": "aim", "M": "4096", "K": "1024"}, log=True).commands
    picture = svg(commands, "a <product>", 0, 500)
    shapes = [e.text for e in ElementTree.fromstring(picture).iter("{http://www.w3.org/2000/svg}title")]
    assert sum(text.startswith("MAC at") for text in shapes if text) == sum(
        c.name == "MAC" and c.cycle < 500 for c in commands
    )
    assert "row 0 open from" in " ".join(str(text) for text in shapes)
    with pytest.raises(InputError, match="nothing to draw"):
        svg(commands, "late", 10**6, 10)
