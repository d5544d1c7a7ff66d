"""What is written: as a whole or not at all, where it was asked for and nowhere else, as text that shows."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import archsim
from archsim.cli import main
from archsim.errors import InputError, RunFailed
from archsim.files import read_bytes, read_text, write_text, write_texts

TOY = Path(__file__).parent / "toy"
PROGRAM = [sys.executable, "-m", "archsim.cli"]


def on_a_small_disk(
    arguments: list[str], most: int, folder: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    """A command that may write files of so many bytes."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    return subprocess.run(
        [*PROGRAM, *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        preexec_fn=limited,
        check=False,
    )


@pytest.mark.parametrize(
    "command",
    [
        f"run {TOY}/run.yaml --out out",
        "sweep sweep.yaml --out out",
        *(
            pytest.param(command, marks=pytest.mark.slow)
            for command in (
                "gemm --array 8x8 --dataflow ws -M 8 -K 8 -N 8 --out out",
                "dram --preset ddr4_8gb_x8_3200aa --stream RD_0_64x999 --commands out",
            )
        ),
    ],
)
def test_a_full_disk_is_one_line_and_leaves_nothing_half(command: str, tmp_path: Path) -> None:
    arguments = [word.replace("_0_", " 0 ") for word in command.split()]
    roomy, small = tmp_path / "roomy", tmp_path / "small"
    for folder in (roomy, small):
        folder.mkdir()
        (folder / "sweep.yaml").write_text(f"base: {TOY}/run.yaml\ngrid: {{chip.clock: [1 GHz]}}\n")
    whole = subprocess.run([*PROGRAM, *arguments], capture_output=True, cwd=roomy, check=False)
    assert whole.returncode == 0  # and its kernels are compiled, which is told on stderr
    done = on_a_small_disk(arguments, 100, small)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
    assert "File too large" in done.stderr
    assert not [path for path in small.rglob("*") if path.suffix in (".tmp", ".csv", ".json")]


def test_a_full_stdout_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*PROGRAM, "list"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "cannot go on: No space left on device\n")


def test_several_files_are_written_together_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_texts(tmp_path / "a", {"x": "1", "y": "2"})
    (tmp_path / "a" / "z").mkdir()
    with pytest.raises(RunFailed, match="cannot write"):
        write_texts(tmp_path / "a" / "x", {"x": "1"})
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(RunFailed, match=r"cannot write .*: No space left on device"):
        write_texts(tmp_path / "a", {"x": "3", "y": "4"})
    with pytest.raises(RunFailed, match="No space"):
        write_texts(tmp_path / "new", {"x": "3"})
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "x", "y", "z"]
    assert (tmp_path / "a" / "x").read_text() == "1"


def test_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    write_text(tmp_path / "link", "é")
    assert (tmp_path / "link").is_symlink()
    assert read_text(tmp_path / "file") == "é"
    write_text(Path("/dev/null"), "nothing")
    assert Path("/dev/null").is_char_device()


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, said in (
        (tmp_path / "pipe", "a device or a pipe"),
        (tmp_path, "directory"),
        (Path("/dev/zero"), "device"),
    ):
        with pytest.raises(InputError, match=said):
            read_bytes(path)
    (tmp_path / "large").write_bytes(b"x" * 9)
    with pytest.raises(InputError, match="too large: more than 8 bytes"):
        read_bytes(tmp_path / "large", 8)


@pytest.mark.parametrize("name", ["../../x", "/tmp/x", "..", ".x", "a/b", "a\\b", "x" * 300, "\x1b[31m"])
def test_a_run_s_name_is_no_way_out_of_the_folder(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = yaml.safe_load((TOY / "run.yaml").read_text()) | {"name": name, "chip": str(TOY / "chip.yaml")}
    evil = tmp_path / "evil.yaml"
    evil.write_text(json.dumps(run))
    assert main(["run", str(TOY / "run.yaml"), str(evil), "--out", "o"]) == 2
    said = capsys.readouterr().err
    assert "needs a plain name for a folder of its own" in said
    assert "\x1b" not in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evil.yaml"]
    assert main(["run", str(evil), "--out", "o"]) == 0  # alone, its folder is the one that is named
    capsys.readouterr()


@pytest.mark.parametrize("name", ["[/bold]", "[bold red]x", "\x1b]0;title\x07", "a\nb", ":smile:", "naïve"])
def test_names_are_printed_as_text(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named = ["--set", f"name={json.dumps(name)}", "--set", f"chip.name={json.dumps(name)}"]
    assert main(["run", str(TOY / "run.yaml"), *named]) == 0
    out = capsys.readouterr().out
    shown = name.encode("unicode_escape").decode() if not name.isprintable() else name
    assert shown in out
    assert "\x1b" not in out
    assert "\x07" not in out
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text(json.dumps({"name": name, "base": str(TOY / "run.yaml"), "grid": {"name": [name, "x"]}}))
    assert main(["sweep", str(sweep)]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_terminals_that_know_few_letters_get_others(tmp_path: Path) -> None:
    command = [*PROGRAM, "run", str(TOY / "run.yaml"), "--set", "name=naïve", "--out", str(tmp_path / "out")]
    done = subprocess.run(
        command, capture_output=True, env=os.environ | {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}, check=True
    )
    assert b"na?ve" in done.stdout
    assert json.loads((tmp_path / "out" / "result.json").read_bytes().decode("utf-8"))["name"] == "naïve"
    assert "name: naïve" in (tmp_path / "out" / "config.yaml").read_bytes().decode("utf-8")
    in_json = subprocess.run(
        [*command[:-2], "--json"], capture_output=True, env=os.environ | {"PYTHONIOENCODING": "ascii"}, check=True
    )
    assert json.loads(in_json.stdout)["name"] == "naïve"


def test_configs_name_configs_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "secret").write_text("text\n")
    os.mkfifo(tmp_path / "pipe.yaml")
    for text, said in (
        ("notes: !include ./secret\n", "'./secret' is no config: its name ends in .yaml, .yml, .json"),
        ("extends: ./pipe.yaml\n", "cannot read"),
        ("notes: !include /dev/zero\n", "'/dev/zero' is no config"),
    ):
        (tmp_path / "run.yaml").write_text(text)
        assert main(["run", str(tmp_path / "run.yaml")]) == 2
        assert said in capsys.readouterr().err


def test_calibrating_leaves_the_package_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shipped = Path(archsim.__file__).parent / "configs" / "kernels" / "nvidia.yaml"
    before = shipped.stat().st_mtime_ns, shipped.read_bytes()
    monkeypatch.chdir(tmp_path)
    assert main(["calibrate", "nvidia", "--stage", "gemm int8"]) == 0
    assert (shipped.stat().st_mtime_ns, shipped.read_bytes()) == before
    assert [path.name for path in tmp_path.iterdir()] == ["nvidia.yaml"]
    assert main(["calibrate", "nvidia", "--stage", "gemm int8"]) == 2
    assert "'nvidia.yaml' is there already" in capsys.readouterr().err


def test_a_folder_that_holds_no_result_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("", "[]", "{}", '{"name": 3', "[" * 100_000, '{"name": "x", "ops": 3, "segments": []}'):
        (tmp_path / "result.json").write_text(text)
        assert main(["report", str(tmp_path)]) == 2
        assert "result.json" in capsys.readouterr().err


def test_a_disk_that_is_full_from_the_start_is_no_bad_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    (tmp_path / "sweep.yaml").write_text(f"base: {TOY}/run.yaml\ngrid: {{chip.clock: [1 GHz]}}\n")
    for command in (["run", str(TOY / "run.yaml")], ["sweep", str(tmp_path / "sweep.yaml")]):
        assert main([*command, "--out", str(tmp_path / "o")]) == 1
        said = capsys.readouterr().err
        assert said == f"cannot write '{tmp_path}/o': No space left on device\n"
