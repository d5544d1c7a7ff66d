"""DRAM presets, traces, patterns, cases, and the command that asks for them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from archsim.cli import main
from archsim.components.memory.command_level import cases, trace
from archsim.components.memory.command_level.channel import Channel
from archsim.components.memory.command_level.channels import Channels
from archsim.components.memory.command_level.pattern import draws, encode, pattern
from archsim.components.memory.command_level.preset import ORDERS, ordered, preset
from archsim.components.memory.command_level.standard import evaluate
from archsim.components.memory.command_level.stream import Stream
from archsim.components.memory.command_level.work import Requests, decode
from archsim.config import shipped
from archsim.errors import InputError


@pytest.mark.parametrize("name", sorted(shipped("drams")))
def test_shipped_presets_hold_what_their_standard_needs(name: str) -> None:
    chosen = preset(name)
    assert chosen.source
    assert chosen.capacity_bytes >= 2**29
    assert 5e9 < chosen.peak_bytes_per_s < 400e9


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("standard", "DDR9", "no DRAM standard is called 'DDR9': did you mean"),
        ("organisation.bank", 3, "organisation.bank is 3: address bits need a power of two"),
        ("organisation.sid", 2, "DDR4 has no level 'sid'"),
        ("timing.nRRDS", 9, "timing contradicts itself: nRRDS (9) is more than nRRDL (8)"),
        ("timing.nRC", 40, "nRC (40) is less than nRAS (52)"),
        ("timing.nFAW", 2, "nFAW (2) is less than nRRDS (4)"),
        ("timing.nBL", 0, "nBL is 0, expected a cycle or more"),
        ("timing.nREFI", 600, "must be more than twice nRFC"),
        ("address", ["column", "row"], "address must name each of"),
        ("address", ["column:9", "rank", "bank_group", "bank", "row"], "takes 9 bits of 'column', which has 7 left"),
        ("address", ["column", "rank", "bank-group", "bank", "row"], "'bank-group' is no field"),
        ("hash", ["bank ^ column"], "is no hash: write 'bank ^ row'"),
        ("hash", ["row ^ row"], "'row' is no level of banks"),
        ("hash", ["bank ^ row:15"], "needs more bits than a row has"),
        ("burst", 48, "burst is 48 B"),
    ],
)
def test_bad_presets_say_what_is_wrong(path: str, value: object, message: str) -> None:
    from archsim.components.memory.command_level.preset import DramPreset
    from archsim.config import load_spec

    with pytest.raises(InputError) as caught:
        load_spec("ddr4_8gb_x8_3200aa", DramPreset, {path: value}, "drams")
    assert message in str(caught.value)


def test_a_missing_timing_is_named() -> None:
    data = preset("ddr4_8gb_x8_3200aa").model_dump()
    data["timing"].pop("nFAW")
    with pytest.raises(InputError, match="timing lacks nFAW"):
        preset(data)


def test_sums_of_timing_parameters() -> None:
    assert evaluate("nCL + 2 * nBL - max(nA, 3)", {"nCL": 22, "nBL": 4, "nA": 1}) == 27
    with pytest.raises(InputError, match="timing 'nCX' is missing: did you mean 'nCL'"):
        evaluate("nCX + 1", {"nCL": 22})
    with pytest.raises(InputError, match="is no sum"):
        evaluate("nCL ** 2", {"nCL": 22})


def test_the_generator_is_the_one_of_its_formula() -> None:
    x, expected = 5, []
    for _ in range(50):
        x = (x * 6364136223846793005 + 1442695040888963407) % 2**64
        expected.append(x >> 33)
    assert draws(5, 50).tolist() == expected


def test_addresses_decode_as_they_were_encoded() -> None:
    chosen = preset("hbm3_16gb_8hi_6400")
    rng = np.random.default_rng(1)
    parts = {level: rng.integers(0, chosen.organisation[level], 100) for level in chosen.address}
    for level, part in decode(chosen, encode(chosen, parts)).items():
        assert (part == parts[level]).all()


def test_split_fields_and_hashed_banks_spread_rows_and_decode_back() -> None:
    chosen = preset("ddr4_8gb_x8_3200aa")
    mapped = chosen.model_copy(
        update={"address": ("column:3", "bank_group", "column", "bank", "rank", "row"), "hash": ("bank ^ row:1",)}
    )
    bursts = np.arange(0, 2**23, 997)
    parts = decode(mapped, bursts * 64)
    assert (encode(mapped, parts) == bursts * 64).all()
    assert parts["column"][:9].max() <= 127
    assert (parts["bank_group"] == bursts >> 3 & 3).all()
    assert (parts["bank"] == (bursts >> 9 & 3) ^ (parts["row"] >> 1 & 3)).all()


def test_traces_of_both_simulators_say_the_same(tmp_path: Path) -> None:
    ramulator, dramsim3 = tmp_path / "a.trace", tmp_path / "b.trace"
    ramulator.write_text("LD 0x40\nST 128\n\nLD 0x1000\n", encoding="utf-8")
    dramsim3.write_text("0x40 READ 0\n0x80 WRITE 0\n0x1000 READ 7\n", encoding="utf-8")
    first, second = trace.read(ramulator), trace.read(dramsim3)
    assert first.address.tolist() == second.address.tolist() == [64, 128, 4096]
    assert first.is_write.tolist() == second.is_write.tolist() == [False, True, False]
    assert second.arrival.tolist() == [0, 0, 7]


def test_both_formats_of_ramulator_say_the_same(tmp_path: Path) -> None:
    older, newer = tmp_path / "older.trace", tmp_path / "newer.trace"
    older.write_text("0x12345680 R\n0x4cbd56c0 W\n")
    newer.write_text("LD 0x12345680\nST 0x4cbd56c0\n")
    first, second = trace.read(older), trace.read(newer)
    assert first.address.tolist() == second.address.tolist() == [0x12345680, 0x4CBD56C0]
    assert first.is_write.tolist() == second.is_write.tolist() == [False, True]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it holds no requests"),
        ("LD\n", ":1:1: 'LD' is no request"),
        ("0x40 PEEK 0\n", "is no request"),
        ("LD -5\n", "an address lies in 0 to 2^62"),
        ("0x40 READ 4611686018427387904\n", ":1:1: an address lies in 0 to 2^62, cycles in 0 to 274,877,906,944"),
        ("0x40 READ " + "9" * 5000 + "\n", ":1:1: '0x40 READ 999"),
        ("0x40 READ 9\n0x40 READ 3\n", ":2:1: an address"),
    ],
)
def test_bad_traces_name_the_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "x.trace"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        trace.read(file)
    assert message in str(caught.value)


def test_requests_are_checked() -> None:
    with pytest.raises(InputError, match="not negative"):
        Requests.of([-1], False)
    with pytest.raises(InputError, match="in the order"):
        Requests.of([0, 64], False, [5, 3])


def test_a_stream_of_hits_keeps_the_bus_busy() -> None:
    """Reads that turn among bank groups at nCCDS use all of the bus but for refresh."""
    chosen = preset("ddr4_8gb_x8_3200aa").model_copy(
        update={"address": ("bank_group", "column", "bank", "rank", "row")}
    )
    answer = Channel(chosen).play(pattern(chosen, "seq_rd", 50_000))
    assert 0.93 < answer.bytes_per_s / chosen.peak_bytes_per_s < 1 - 576 / 12480
    assert answer.latency_percentile(50) <= answer.latency_percentile(99)


def test_an_idle_read_takes_activate_and_latency() -> None:
    answer = Channel("ddr4_8gb_x8_3200aa").play(Requests.of([0], False))
    assert answer.done.tolist() == [1 + 22 + 22 + 4]
    assert answer.read_latencies.tolist() == [49]


def test_rows_that_describe_a_device_equal_the_shipped_preset() -> None:
    shipped_preset = preset("lpddr5_8gb_x16_6400")
    row = {
        "sim": "Ramulator2.1@c5b1c3a4",
        "config": "r2_LPDDR5_8Gb_x16_6400",
        "pattern": "rand_rw21",
        "n_req": "500",
        "timing": json.dumps({**shipped_preset.timing, "tCK_ps": 1250, "rate": 6400}),
        "ranks": "1",
        "bankgroups": "4",
        "banks_per_bg": "4",
        "rows": "32768",
        "cols_req": "64",
        "req_bytes": "32",
        "BL": "16",
    }
    direct = Channel(shipped_preset, "frfcfs_ramulator").play(pattern(shipped_preset, "rand_rw21", 500))
    told, known = cases.answer(row).summary(), direct.summary()
    assert told.pop("energy_note")  # a row of a table has no energies
    assert told == {name: value for name, value in known.items() if not name.startswith(("energy", "pJ"))}


def test_neighbours_in_other_bank_groups_stream_at_twice_the_rate() -> None:
    device = preset("hbm3_16gb_8hi_6400")
    plain, dealt = (
        Channel(ordered(device, order)).play(pattern(ordered(device, order), "seq_rd", 4000)) for order in ORDERS
    )
    assert dealt.bytes == plain.bytes
    assert dealt.summary()["bus_share"] > 1.7 * plain.summary()["bus_share"]
    assert plain.summary()["clocks"] * plain.summary()["clock_ps"] == pytest.approx(plain.time_s * 1e12)
    with pytest.raises(InputError, match="no order of addresses is called 'bank_group_first': did you mean"):
        ordered(device, "bank_group_first")


def test_the_command_line_answers_a_trace_and_its_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    requests, commands = tmp_path / "requests.trace", tmp_path / "commands.csv"
    requests.write_text("LD 0x0\nLD 0x40\n", encoding="utf-8")
    code = main(
        ["dram", "--preset", "ddr4_8gb_x8_3200aa", "--trace", str(requests), "--commands", str(commands), "--json"]
    )
    answer = json.loads(capsys.readouterr().out)
    assert code == 0
    assert (answer["ACT"], answer["RD"], answer["row_hits"], answer["cycles"]) == (1, 2, 1, 1 + 22 + 8 + 26)
    with commands.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["clock"], row["command"]) for row in rows] == [("1", "ACT"), ("23", "RD"), ("31", "RD")]


def test_the_command_line_plays_streams_both_ways_alike(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["dram", "--preset", "hbm2_8gb_2000", "--stream", "RD 0 32x200000", "--json"]
    assert main(asked) == 0
    fast = json.loads(capsys.readouterr().out)
    assert main([*asked, "--brute-force"]) == 0
    assert json.loads(capsys.readouterr().out) == fast
    assert fast["RD"] == 200_000


def test_the_command_line_plays_several_streams(capsys: pytest.CaptureFixture[str]) -> None:
    streams = ["--stream", "RD 0 32x100", "--stream", "WR 0x10000 rowx4 32x5 below=8", "--arbitration", "priority"]
    assert main(["dram", "--preset", "hbm3e_16gb_8hi_8000", *streams, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["RD"], answer["WR"]) == (100, 20)


def test_the_command_line_draws_banks_and_writes_commands_to_read(tmp_path: Path) -> None:
    picture, text = tmp_path / "banks.svg", tmp_path / "commands.txt"
    asked = ["dram", "--preset", "gddr6_8gb_x16_14000", "--pattern", "rand_rw21", "--requests", "400"]
    assert main([*asked, "--picture", str(picture), "--window", "3000:1500", "--commands", str(text)]) == 0
    lines = text.read_text(encoding="utf-8").splitlines()
    assert lines[0].split()[:4] == ["1", "0.570", "ns", "ACT"]
    assert any("REFab  all banks" in line for line in lines)
    drawn = ElementTree.parse(picture).getroot()
    titles = [title.text or "" for title in drawn.iter("{http://www.w3.org/2000/svg}title")]
    inside = [line.split() for line in lines if 3000 <= int(line.split()[0]) < 4500]
    columns = [words for words in inside if words[3] in ("RD", "WR")]
    assert sum(title.startswith("data of") for title in titles) == len(columns)
    assert sum(title.startswith("REFab at") for title in titles) == 16 * sum(w[3] == "REFab" for w in inside)
    assert sum(title.startswith("ACT at") for title in titles) == sum(words[3] == "ACT" for words in inside)


def test_cases_pass_columns_through_and_name_bad_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "cases.csv"
    file.write_text("preset,policy,pattern,n_req,note\nhbm2_8gb_2000,frfcfs,seq_rd,100,mine\n", encoding="utf-8")
    assert main(["dram", "--cases", str(file), "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert (answer["note"], answer["RD"]) == ("mine", 100)
    file.write_text("preset,pattern,n_req\nhbm2_8gb_2000,seq_rd,none\n", encoding="utf-8")
    assert main(["dram", "--cases", str(file)]) == 2
    assert f"{file}:2:1: n_req: expected a whole number" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a --preset and a --trace"),
        (["--preset", "ddr4_8gb_x8_3200aa", "--pattern", "seq_rw", "--requests", "5"], "did you mean 'seq_rw21'"),
        (
            ["--preset", "ddr4_8gb_x8_3200aa", "--policy", "frfcf", "--pattern", "seq_rd", "--requests", "5"],
            "no DRAM policy is called 'frfcf'",
        ),
        (
            [
                "--preset",
                "lpddr5_8gb_x16_6400",
                "--policy",
                "per_bank_dramsim3",
                "--pattern",
                "seq_rd",
                "--requests",
                "5",
            ],
            "cannot send the commands of LPDDR5",
        ),
        (["--preset", "ddr4_8gb_x8_3200aa", "--trace", "no such file"], "cannot read it"),
        (["--preset", "ddr4_8gb_x8_3200aa", "--stream", "RD 0 64x9", "--window", "5"], "--window: '5' is no window"),
        (["--preset", "ddr4_8gb_x8_3200aa", "--stream", "RD 0 64x9", "--arbitration", "fair"], "no way to arbitrate"),
        (["--preset", "ddr4_8gb_x8_3200aa", "--stream", "RD 0x1ffffffc0 64x2"], "lies beyond the 8,589,934,592 bytes"),
        (["--preset", "ddr4_8gb_x8_3200aa", "--stream", "RD 0 64x99999999999999"], "never ends"),
        (["--preset", "ddr4_8gb_x8_3200aa", "--stream", "RD 0 64x9", "--pattern", "seq_rd"], "name a --preset and"),
        (["--preset", "ddr4_8gb_x8_3200aa", "--policy", "frfcfs_per_bank_refresh", "--stream", "RD 0"], "single banks"),
    ],
)
def test_the_command_line_says_what_is_wrong(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dram", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_energy_of_an_activate_worked_out_by_hand() -> None:
    """DDR4-3200 by its IDD set: 1.2 V (57 mA x 74 - 52 mA x 52 - 37 mA x 22) cycles of 625 ps, eight devices."""
    chosen = preset("ddr4_8gb_x8_3200aa")
    assert chosen.energy_j["ACT"] == pytest.approx(1.2 * (57 * 74 - 52 * 52 - 37 * 22) * 1e-3 * 625e-12 * 8)
    answer = Channel(chosen).play(Requests.of([0, 64], [False, True]))
    assert answer.energy_j["RD"] == pytest.approx(1.2 * (168 - 52) * 1e-3 * 4 * 625e-12 * 8)
    assert answer.open_ticks == answer.cycles - 1  # from the ACT in tick 1 to the end
    with pytest.raises(InputError, match="has no currents"):
        _ = Channel("ddr5_16gb_x8_6400an").play(Requests.of([0], False)).energy_j


def test_energy_by_the_bit_worked_out_by_hand() -> None:
    """HBM3: rows of 1 KiB at 0.11 pJ a bit, bursts of 32 B at 3.48 pJ a bit; a REFab opens two rows of 32 banks."""
    each = preset("hbm3_16gb_8hi_6400").energy_j
    assert each["ACT"] == pytest.approx(0.11e-12 * 8192)
    assert each["RD"] == pytest.approx(3.48e-12 * 256)
    assert each["REF"] == pytest.approx(64 * 0.11e-12 * 8192)


def test_affine_streams_are_nested_loops() -> None:
    stream = Stream(4096, (1024, 64), (3, 2), is_write=True).requests()
    assert stream.address.tolist() == [4096, 4160, 5120, 5184, 6144, 6208]
    assert stream.is_write.all()
    with pytest.raises(InputError, match="a count for each stride"):
        Stream(0, (64,), (1, 2))
    with pytest.raises(InputError, match="never ends"):
        Stream(0, (64,), (2**41,))
    with pytest.raises(InputError, match="counts are 1 or more"):
        Stream(0, (64,), (0,))
    with pytest.raises(InputError, match="lies beyond the 8,589,934,592 bytes"):
        Channel("ddr4_8gb_x8_3200aa").stream(Stream(2**33 - 64, (64,), (2,)))


def test_no_requests_take_no_time() -> None:
    answer = Channel("ddr4_8gb_x8_3200aa").play(Requests.of([], False))
    assert (answer.cycles, answer.bytes_per_s, answer.commands) == (0, 0.0, [])


with (Path(__file__).parent / "dram_described.csv").open(newline="", encoding="utf-8") as rows:
    DESCRIBED = list(csv.DictReader(rows))


@pytest.mark.parametrize("case", DESCRIBED, ids=[case["config"] for case in DESCRIBED])
def test_a_row_that_describes_a_device_of_a_simulator_is_answered_as_it_does(case: dict[str, str]) -> None:
    """What Ramulator 2.1 (c5b1c3a) and DRAMsim3 (29817593) counted, odd presets included: gaps, defaults, comments."""
    counts = ("cycles", "row_hits", "row_misses_or_nonhits", "row_conflicts", "ACT", "PRE", "RD", "WR", "REF")
    expected = {name: int(case[name]) for name in counts if case[name]}
    asked = {name: value for name, value in case.items() if name not in counts}
    did = cases.answer(asked).summary()
    assert {name: did[name] for name in expected} == expected


def test_a_preset_may_name_a_set_of_currents() -> None:
    """As many devices of the set as the bus is wide; the currents are those that another preset writes out."""
    named = preset({"extends": "ddr5_16gb_x8_4800bn", "power": {"set": "DDR4_8Gb_x8_3200", "bus": 64}}).power
    written = preset("ddr4_8gb_x8_3200aa").power
    assert named is not None
    assert written is not None
    assert named.model_dump(exclude={"source"}) == written.model_dump(exclude={"source"})


@pytest.mark.parametrize(
    ("power", "message"),
    [
        ({"set": "DDR4_8Gb_x8_3201", "bus": 64}, "no set of currents is called 'DDR4_8Gb_x8_3201': did you mean"),
        ({"set": "DDR4_8Gb_x8_3200", "bus": 4}, "a bus of 4 bits is not made up of devices of 8 bits"),
        ({"set": "DDR4_8Gb_x8_3200"}, "a set of currents is named with its bus"),
        ({"set": "DDR4_8Gb_x8_3200", "bus": 64, "VDD": 1.2}, r"and nothing else, not VDD"),
    ],
)
def test_bad_sets_of_currents(power: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        preset({"extends": "ddr5_16gb_x8_4800bn", "power": power})


@pytest.mark.parametrize(("name", "tick_ps"), [("hbm3_16gb_8hi_6400", 312.5), ("ddr4_8gb_x8_3200aa", 625)])
def test_an_answer_says_how_long_its_cycles_are(name: str, tick_ps: float) -> None:
    """HBM3 sends commands in half clocks: a read of one burst takes 54.5 clocks of 625 ps, which are 109 cycles."""
    did = Channel(name).play(Requests.of([0x40], [False])).summary()
    assert did["cycle_ps"] == tick_ps
    assert did["cycles"] * did["cycle_ps"] * 1e-12 == pytest.approx(did["time_s"])
    if name.startswith("hbm3"):
        assert did["cycles"] == 109


@pytest.mark.parametrize("policy", ["frfcfs", "frfcfs_ramulator"])
def test_one_of_several_channels_is_a_channel(policy: str) -> None:
    channel = Channel("ddr4_8gb_x8_3200aa", policy)
    requests = pattern(channel.preset, "rand_rw21", 500)
    alone, dealt = channel.play(requests).summary(), Channels(channel, 1).play(requests).summary()
    assert dealt.pop("channels_used") == 1
    assert dealt == pytest.approx(alone, rel=1e-12)


@pytest.mark.parametrize(("count", "interleave"), [(2, 64), (4, 256), (8, 4096)])
def test_several_channels_are_each_alone(count: int, interleave: int) -> None:
    channel = Channel("ddr4_8gb_x8_3200aa")
    dealt = Channels(channel, count, interleave)
    rng = np.random.default_rng(5)
    address = rng.integers(0, channel.preset.capacity_bytes * count // 64, 400) * 64
    requests = Requests.of(address, rng.random(400) < 0.3)
    mine: dict[int, list[tuple[int, bool]]] = {}
    for a, write in zip(requests.address.tolist(), requests.is_write.tolist(), strict=True):
        block = a // interleave
        mine.setdefault(block % count, []).append((block // count * interleave + a % interleave, write))
    each = [channel.play(Requests.of([a for a, _ in part], [w for _, w in part])) for part in mine.values()]
    found = dealt.play(requests).summary()
    assert found["cycles"] == max(one.cycles for one in each)
    assert found["row_hits"] == sum(one.row_hits for one in each)
    assert found["ACT"] == sum(one.activates for one in each)
    assert found["RD"] + found["WR"] == 400
    assert found["energy_j"] > sum(sum(one.energy_j.values()) for one in each)
    assert found["bus_share"] == pytest.approx(found["bw_GBps"] * 1e9 / channel.preset.peak_bytes_per_s / count)


def test_every_byte_of_several_channels_is_one_place() -> None:
    channel = Channel("ddr4_8gb_x8_3200aa")
    where, within = Channels(channel, 4, 128).deal(np.arange(4096))
    places = set(zip(where.tolist(), within.tolist(), strict=True))
    assert places == {(c, a) for c in range(4) for a in range(1024)}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--channels", "3"], "3 is no power of two"),
        (["--channels", "2", "--interleave", "32"], "32 is no power of two of 64 and more"),
        (["--interleave", "64"], "it deals addresses over several"),
        (["--channels", "2", "--commands", "out.csv"], "commands, pictures and streams are those of one channel"),
    ],
)
def test_what_several_channels_cannot_do_is_said(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["dram", "--preset", "ddr4_8gb_x8_3200aa", "--pattern", "seq_rd", "--requests", "10", *words]
    assert main(line) == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_an_address_beyond_all_channels_is_said() -> None:
    channel = Channel("ddr4_8gb_x8_3200aa")
    beyond = Requests.of([channel.preset.capacity_bytes * 2], False)
    assert Channels(channel, 4).play(beyond).cycles > 0
    with pytest.raises(InputError, match=r"address 0x400000000 lies beyond the 17.18 GB of 2 channels"):
        Channels(channel, 2).play(beyond)
