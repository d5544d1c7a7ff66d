"""A schedule from another package is found, checked and played like one of ours."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "third_party_schedule"
SIZES = "--hidden 1024 --layers 8 --heads 16 --vocab 512 --seq 512"
ASKED = f"train {SIZES} --gpus 4 --pp 4 --batch 16 --micro-batch 1 --json".split()


def test_it_is_listed_played_and_named_where_it_is_misspelt(tmp_path: Path) -> None:
    """With the dist-info that an installer would write: its entry points as its pyproject.toml declares them."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    shutil.copy(EXAMPLE / "eager.py", tmp_path)
    info = tmp_path / "archsim_eager-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    (info / "entry_points.txt").write_text(
        "".join(
            f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in entries.items())
            for group, entries in project["entry-points"].items()
        )
    )
    asked = [["list", "schedules"], *([*ASKED, "--schedule", name] for name in ("eager_1f1b", "1f1b", "eager_1f1"))]
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from archsim.cli import main\n"
        f"for asked in {asked!r}: print('rc', main(asked), flush=True)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    listed, eager, plain, wrong = done.stdout.split("rc ")[:4]
    assert "eager_1f1b" in listed.split(), done.stderr
    eager, plain = (json.loads(text.partition("\n")[2]) for text in (eager, plain))
    assert eager["activation_bytes"] > plain["activation_bytes"]
    assert eager["bubble_ms"] <= plain["bubble_ms"]
    assert wrong.startswith("0")
    assert "--schedule: no schedule is called 'eager_1f1': did you mean 'eager_1f1b'" in done.stderr
