"""A part from another package is found, checked and simulated like one of ours."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from archsim.config import load_spec
from archsim.errors import InputError
from archsim.machine import ChipSpec

Done = subprocess.CompletedProcess[str]
Archsim = Callable[..., Done]
EXAMPLE = Path(__file__).parents[2] / "examples" / "third_party_part"


@pytest.fixture(scope="module")
def archsim(tmp_path_factory: pytest.TempPathFactory) -> Archsim:
    """The command line in a Python where the example is installed.

    What an installer would write is written by hand: the module, and a dist-info with the entry points that
    its pyproject.toml declares. So the test needs neither a network nor a build.
    """
    site = tmp_path_factory.mktemp("site")
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    shutil.copy(EXAMPLE / "lookup_table.py", site)
    info = site / "archsim_lookup_table-0.1.0.dist-info"
    info.mkdir()
    metadata = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(metadata)
    (info / "entry_points.txt").write_text(
        "".join(
            f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in entries.items())
            for group, entries in project["entry-points"].items()
        )
    )

    def run(*arguments: str) -> Done:
        code = f"import sys; sys.path.insert(0, {str(site)!r}); from archsim.cli import main; exit(main())"
        command = [sys.executable, "-c", code, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=100)

    return run


def test_it_is_listed_and_described(archsim: Archsim) -> None:
    assert "lookup_table_unit" in archsim("list", "components").stdout.split()
    assert "elements a cycle" in archsim("schema", "lookup_table_unit").stdout


def test_it_stands_in_a_chip(archsim: Archsim) -> None:
    shown = archsim("show", str(EXAMPLE / "chip.yaml"))
    assert "kind: lookup_table_unit" in shown.stdout, shown.stderr
    assert "chip.tables" in archsim("show", str(EXAMPLE / "chip.yaml"), "--area").stdout


def test_its_problems_are_told_like_any_other(archsim: Archsim) -> None:
    wrong = archsim("show", str(EXAMPLE / "chip.yaml"), "--set", "engines.tables.lane=5")
    assert wrong.returncode == 2
    assert "engines.tables has no 'lane': did you mean 'lanes'?" in wrong.stderr


@pytest.mark.parametrize(("lanes", "engine"), [(4096, "chip.tables"), (16, "chip.vpu")])
def test_the_mapper_uses_it_where_it_is_faster(archsim: Archsim, lanes: int, engine: str) -> None:
    done = archsim("run", str(EXAMPLE / "run.yaml"), "--set", f"chip.engines.tables.lanes={lanes}", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert {op["engine"] for op in result["ops"] if "activation" in op["name"]} == {engine}
    assert ("chip.tables.lookup" in result["energy_j"]["by_action"]) == (engine == "chip.tables")
    assert result["area_mm2"]["by_component"]["chip.tables"] > 0


def test_without_the_package_the_name_is_unknown() -> None:
    with pytest.raises(InputError, match=r"chip\.yaml:5:12: engines\.tables\.kind: no component is called"):
        load_spec(EXAMPLE / "chip.yaml", ChipSpec)
