"""Recorded requests and expert counts: every format and complaint, and the published files."""

from __future__ import annotations

import itertools
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import archsim
from archsim.config import to_yaml
from archsim.errors import InputError
from archsim.workloads.requests import Request, read_requests

SHARED = Path(archsim.__file__).resolve().parents[2] / "shared" / "traces"
needs_traces = pytest.mark.skipif(not SHARED.is_dir(), reason="the published traces are not beside the repository")

AZURE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10\n2023-11-16 18:17:04.0319600,3180,8\n"
)
MOONCAKE = (
    '{"timestamp": 27000, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1]}\n'
    '{"timestamp": 30000, "input_length": 7322, "output_length": 490, "hash_ids": [0, 14]}\n'
)
AZURE_2024 = (
    "TIMESTAMP, ContextTokens, GeneratedTokens\n"
    "2024-05-10 00:00:00+00:00, 2162, 5\n2024-05-10 02:00:00.223456+02:00,2399,6\n"
)
BURSTGPT = (
    "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    "5,ChatGPT,472,18,490,Conversation log\n45,ChatGPT,1087,230,1317,Conversation log\n"
)
SHAREGPT = (
    '{"input_toks": 2358, "output_toks": 531, "arrival_time_ns": 46926808}\n'
    "\n"
    '{"input_toks": 1034, "output_toks": 769, "arrival_time_ns": 347938951}\n'
)


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("azure.csv", AZURE, [Request(0, 4808, 10), Request(52 * 10**9, 3180, 8)]),
        ("azure.csv", AZURE_2024, [Request(0, 2162, 5), Request(223_456_000_000, 2399, 6)]),
        ("burstgpt.csv", BURSTGPT, [Request(0, 472, 18), Request(40 * 10**12, 1087, 230)]),
        ("mooncake.jsonl", MOONCAKE, [Request(0, 6758, 500), Request(3 * 10**12, 7322, 490)]),
        ("sharegpt.jsonl", SHAREGPT, [Request(0, 2358, 531), Request(301_012_143_000, 1034, 769)]),
    ],
)
def test_each_format_is_read_and_recognised(tmp_path: Path, name: str, text: str, expected: list[Request]) -> None:
    path = write(tmp_path, name, text)
    found = read_requests(path)
    assert [replace(one, contents=()) for one in found] == expected
    assert all(one.contents[-1][1] == one.input for one in found if one.contents)  # the last run ends with the prompt
    assert read_requests(path, path.stem) == found
    first, second = read_requests(path, limit=1), read_requests(path, first=1)
    assert [replace(one, contents=()) for one in first] == [Request(0, expected[0].input, expected[0].output)]
    assert [replace(one, contents=()) for one in second] == [Request(0, expected[1].input, expected[1].output)]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", AZURE.replace("3180", "many"), r"a.csv:3:1: 'ContextTokens' is 'many', which is no number of tokens"),
        ("a.csv", AZURE.replace("3180", "-3"), r"a.csv:3:1: 'ContextTokens' is '-3'"),
        ("a.csv", AZURE.replace("2023-11-16 18:17:04.0319600", "noon"), r"a.csv:3:1: 'TIMESTAMP' is 'noon'"),
        ("a.csv", "a,b\n1,2\n", r"holds no known columns \(a, b\); known are azure: TIMESTAMP, ContextTokens"),
        ("a.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\n", "it holds no rows"),
        ("m.jsonl", MOONCAKE.replace('{"timestamp": 30000', "{"), r"m.jsonl:2:2: no valid JSON"),
        ("m.jsonl", "[1]\n", r"m.jsonl:1:1: a request is a JSON object"),
        (
            "m.jsonl",
            MOONCAKE.replace('"output_length": 490', '"output_lenght": 490'),
            r"m.jsonl:2:1: 'output_length' is missing: did you mean 'output_lenght'\?",
        ),
        ("m.jsonl", MOONCAKE.replace("490", "49.5"), r"m.jsonl:2:1: 'output_length' is '49.5'"),
    ],
)
def test_what_is_wrong_is_told_with_file_and_line(tmp_path: Path, name: str, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_requests(write(tmp_path, name, text))


def test_readers_have_bounds(tmp_path: Path) -> None:
    for name, text, said in (
        ("a.jsonl", "[" * 200_000 + "\n", "a.jsonl:1:1: no valid JSON: nested too deep"),
        ("b.jsonl", '{"input_length": ' + "9" * 5000 + "}\n", "b.jsonl:1:1: no valid JSON"),
        ("c.csv", AZURE.replace("3180", "9" * 5000), "c.csv:3:1: 'ContextTokens' is '999"),
        ("d.csv", AZURE.replace("2023-11-16 18:17:04.0319600", "9" * 5000), "d.csv:3:1: 'TIMESTAMP' is '999"),
    ):
        with pytest.raises(InputError, match=said) as caught:
            read_requests(write(tmp_path, name, text))
        assert len(str(caught.value)) < 400
    os.mkfifo(tmp_path / "pipe.csv")
    for device in (Path("/dev/zero"), tmp_path / "pipe.csv"):
        with pytest.raises(InputError, match="a device or a pipe, not a file"):
            read_requests(device)


def test_a_file_is_found_beside_the_one_that_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs" / "data").mkdir(parents=True)
    write(tmp_path / "runs" / "data", "azure.csv", AZURE)
    run = write(
        tmp_path / "runs",
        "run.yaml",
        "name: r\nchip: tpu_v4i\nworkload:\n"
        "  {kind: transformer, model: gpt2, dtype: bf16, lengths: {path: data/azure.csv, requests: 1}}\n",
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    spec: Any = archsim.load(str(run))
    assert spec.workload.lengths.path == str(tmp_path / "runs/data/azure.csv")
    again = write(elsewhere, "again.yaml", to_yaml(spec))
    assert archsim.load(str(again)) == spec
    with pytest.raises(InputError, match=r"azure.csv: cannot read it"):  # an option is from here
        archsim.run(str(run), {"workload.lengths.path": "data/azure.csv"})
    shipped: Any = archsim.load(str(run), {"workload.lengths.path": "azure_conversation_200.csv"})
    assert not Path(shipped.workload.lengths.path).is_absolute()


def test_columns_of_cases_are_those_of_a_trace(tmp_path: Path) -> None:
    asked = write(tmp_path, "cases.csv", "arrival_s,input_toks,output_toks\n0.5,10,5\n0.75,20,6\n")
    told = [(r.arrival_ps, r.input, r.output) for r in read_requests(asked)]
    assert told == [(0, 10, 5), (250_000_000_000, 20, 6)]
    late = write(tmp_path, "late.csv", "came,input_toks,output_toks\n0.5,10,5\n")
    with pytest.raises(InputError, match=r"holds no known columns \(came, .*; sharegpt: arrival_time_ns, input_toks"):
        read_requests(late)


def test_too_few_requests_and_unknown_formats_are_told(tmp_path: Path) -> None:
    path = write(tmp_path, "azure.csv", AZURE)
    with pytest.raises(InputError, match="holds 1 requests where 2 after the first 1 are asked for"):
        read_requests(path, limit=2, first=1)
    with pytest.raises(InputError, match="no request format is called 'azur': did you mean 'azure'"):
        read_requests(path, "azur")
    with pytest.raises(InputError, match="cannot read it"):
        read_requests(tmp_path / "absent.csv")


@needs_traces
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("azure_llm_2023_code.csv", 8819),
        ("azure_llm_2023_conv.csv", 19366),
        ("mooncake_conversation.jsonl", 12031),
        ("sharegpt_llama31_8b_300_lengths.jsonl", 300),
    ],
)
def test_the_published_files_are_read_whole(name: str, count: int) -> None:
    requests = read_requests(SHARED / name)
    assert len(requests) == count
    assert requests[0].arrival_ps == 0
    assert all(r.input > 0 and r.output >= 0 for r in requests)
    assert all(a.arrival_ps <= b.arrival_ps for a, b in itertools.pairwise(requests))
