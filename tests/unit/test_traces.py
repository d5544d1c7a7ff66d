"""Recorded requests and expert counts: every format and complaint, and the published files."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

import archsim
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
        ("mooncake.jsonl", MOONCAKE, [Request(0, 6758, 500), Request(3 * 10**12, 7322, 490)]),
        ("sharegpt.jsonl", SHAREGPT, [Request(0, 2358, 531), Request(301_012_143_000, 1034, 769)]),
    ],
)
def test_each_format_is_read_and_recognised(tmp_path: Path, name: str, text: str, expected: list[Request]) -> None:
    path = write(tmp_path, name, text)
    assert read_requests(path) == expected
    assert read_requests(path, path.stem) == expected
    assert read_requests(path, limit=1) == [Request(0, expected[0].input, expected[0].output)]
    assert read_requests(path, first=1) == [Request(0, expected[1].input, expected[1].output)]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", AZURE.replace("3180", "many"), r"a.csv:3:1: 'ContextTokens' is 'many', which is no number of tokens"),
        ("a.csv", AZURE.replace("3180", "-3"), r"a.csv:3:1: 'ContextTokens' is '-3'"),
        ("a.csv", AZURE.replace("2023-11-16 18:17:04.0319600", "noon"), r"a.csv:3:1: 'TIMESTAMP' is 'noon'"),
        ("a.csv", "a,b\n1,2\n", r"holds no known columns \(a, b\); known are azure: ContextTokens"),
        ("a.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\n", "holds 0 requests where one are asked for"),
        ("m.jsonl", MOONCAKE.replace('{"timestamp": 30000', "{"), r"m.jsonl:2:2: is no JSON"),
        ("m.jsonl", "[1]\n", r"m.jsonl:1:1: a request is a JSON object"),
        (
            "m.jsonl",
            MOONCAKE.replace('"output_length": 490', '"output_lenght": 490'),
            r"m.jsonl:2:1: 'output_length' is missing: did you mean 'output_lenght'\?",
        ),
        ("m.jsonl", MOONCAKE.replace("490", "49.5"), r"m.jsonl:2:1: 'output_length' is 49.5"),
    ],
)
def test_what_is_wrong_is_told_with_file_and_line(tmp_path: Path, name: str, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_requests(write(tmp_path, name, text))


def test_too_few_requests_and_unknown_formats_are_told(tmp_path: Path) -> None:
    path = write(tmp_path, "azure.csv", AZURE)
    with pytest.raises(InputError, match="holds 1 requests where 2 after the first 1 are asked for"):
        read_requests(path, limit=2, first=1)
    with pytest.raises(InputError, match="no request format is called 'azur': did you mean 'azure'"):
        read_requests(path, "azur")
    with pytest.raises(InputError, match="cannot be read"):
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
