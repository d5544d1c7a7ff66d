"""PIM devices asked alone: instruction traces, HBM-PIM, files of cases, bad input."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.components.pim import hbm_pim, instruction_trace
from archsim.components.pim.timeline import svg
from archsim.errors import InputError
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
    assert played.figures["channels"] == 32


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
    ],
)
def test_bad_traces(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        instruction_trace.read(trace(tmp_path, text))


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ({}, "--device: is missing"),
        ({"device": "aim"}, "--m: M is a positive number, not ''"),
        ({"device": "aim", "M": "0", "K": "4"}, "positive whole number, not 0"),
        ({"device": "aim", "M": "4", "K": "4", "operation": "add"}, "only know gemv"),
        ({"device": "hbm_pim", "M": "4", "operation": "sub"}, "no operation is called 'sub'"),
        ({"device": "tpu_v4i", "M": "4", "K": "4"}, "has no PIM channels"),
        ({"device": "aim", "M": "4", "K": "4", "accounting": "aim"}, "known: aim_simulator, hardware"),
    ],
)
def test_bad_cases(case: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        answer(case)


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


@settings(max_examples=20, deadline=None)
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
    assert first["cycles"] == "1" and first["archsim_cycles"] > 600  # noqa: PT018
    assert second["archsim_cycles"] == 3662
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
    assert "missing.trace:3:1: cannot read it" in captured.err


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
