"""Every command and snippet of the README, the documents and the commands' help runs as it is written.

In a folder that holds nothing but what ``archsim new`` writes.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from archsim.cli import main
from archsim.cli.app import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SLOW = (
    "archsim validate\n",
    "archsim validate scalesim",
    "archsim validate chips",
    "archsim calibrate nvidia\n",
    "archsim calibrate nvidia --stage 'gemm bf16'",
    "archsim run polca_row",
    "archsim run serving_llama_3_8b_on_h100",
    "archsim sweep my_sweep.yaml --out results/sweep --workers 8",
    "--pattern rand_rw21 --requests 100000 --",
    "deepseek_r1",
    "plan --train --model gpt3-175b",
    "plan --serve --model qwen3-8b --system l40s",
    "plan --serve --model llama-3.1-8b --system h100_sxm --rate 20 --slo ttft",
    "--ranks 8/128",
    "--memory command",
)
"""Parts of commands that take more than a few seconds"""
FIRST = ("README.md", "help ")
"""What everyone reads; commands of the other pages are left to ``make test-slow``."""


def written() -> Iterator[tuple[str, str]]:
    """Page and command, continued lines joined, what is said of it left out."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        blocks = re.findall(r"```sh\n(.*?)```", text, re.S) + re.findall(r"(?:^    archsim .*\n)+", text, re.M)
        for block in blocks:
            for line in block.replace("\\\n", " ").splitlines():
                yield page.name, line.strip()
    commands = typer.main.get_command(app)
    for name, command in {"": commands, **getattr(commands, "commands", {})}.items():
        for line in re.sub(r"\\\n\s*", " ", command.help or "").splitlines():
            if line.strip().startswith("archsim ") and "COMMAND" not in line:
                yield f"help {name}", _before_prose(line)


def _before_prose(line: str) -> str:
    """A line of help up to what it says of the command, which stands apart."""
    return re.split(r"(?<=\S)\s{4,}(?=\S)", line.strip())[0]


def commands() -> list[Any]:
    seen: dict[str, str] = {}
    for page, line in written():
        words = shlex.split(line, comments=True)
        command = shlex.join(words)
        if words and words[0] == "archsim" and "COMMAND" not in words and command not in seen:
            seen[command] = page
    return [
        pytest.param(command, id=f"{page}: {command}", marks=[pytest.mark.slow] if _slow(page, command) else [])
        for command, page in seen.items()
    ]


def _slow(page: str, command: str) -> bool:
    return not page.startswith(FIRST) or any(part in f"{command}\n" for part in SLOW)


@pytest.mark.parametrize("command", commands())
def test_a_command_runs_as_it_is_written(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = shlex.split(command)[1:]
    if words != ["new"]:
        assert main(["new"]) == 0
    for words_before in _needed(words):
        assert main(words_before) == 0
    if ">" in words:
        words = words[: words.index(">")]
    code = main(words)
    assert code == 0, capsys.readouterr().err


def _needed(words: list[str]) -> list[list[str]]:
    """What must have run before."""
    return [["run", "my_run.yaml", "--out", "results/my_run"]] if words[:1] == ["report"] else []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_python_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if page.name == "tutorial_an_engine.md":
        pytest.skip("has a test of its own")
    for code in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S):
        exec(code, {"__name__": "snippet"})


def test_files_to_begin_with_are_not_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new", str(tmp_path / "a")]) == 0
    (tmp_path / "a" / "my_run.yaml").write_text("mine")
    assert main(["new", str(tmp_path / "a")]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (tmp_path / "a" / "my_run.yaml").read_text() == "mine"


def test_every_file_that_is_named_ships() -> None:
    """Files that examples read, not those they write."""
    made = {
        "answers.csv",
        "commands.csv",
        "torus.svg",
        "pipeline.svg",
        "banks.svg",
        "overlap.svg",
        "fill_and_drain.svg",
        "mine.yaml",
        "misses.csv",
        "layers.yaml",
        "profile.csv",
    }
    ships = {file.name for file in (ROOT / "archsim" / "start").iterdir()}
    named = {
        Path(word).name
        for parameter in commands()
        for word in shlex.split(str(parameter.values[0]))
        if re.search(r"\.(csv|yaml|json|txt|trace|svg)$", word)
    }
    assert named - made - {"run.schema.json"} <= ships
