"""A policy of a row from another package is found, checked and played like one of ours."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from archsim import registry
from archsim.config import load_spec
from archsim.errors import InputError
from archsim.servers.phases import Phases
from archsim.servers.row import clocks_hz, play
from archsim.servers.spec import RowSpec

EXAMPLE = Path(__file__).parents[2] / "examples" / "third_party_policy"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """With the dist-info that an installer would write: its entry points as its pyproject.toml declares them."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    info = tmp_path / "archsim_ladder-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    (info / "entry_points.txt").write_text(
        "".join(
            f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in entries.items())
            for group, entries in project["entry-points"].items()
        )
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(EXAMPLE)
    for cached in (registry._entries, registry.find):
        cached.cache_clear()
    yield
    for cached in (registry._entries, registry.find):
        cached.cache_clear()


def test_it_is_listed_played_and_named_where_it_is_misspelt(installed: None) -> None:
    assert "ladder" in registry.names("archsim.row_policies")
    spec = load_spec(str(EXAMPLE / "row.yaml"), RowSpec, {"days": 1}, category="experiments")
    policies = [spec.policy, *spec.compare.values()]
    clocks = clocks_hz(spec, policies)
    slower = 1 + 0.1 * np.arange(len(clocks))
    kinds = np.ones((len(spec.requests), 1))
    of = Phases(2 * kinds * slower, 3000 * kinds / slower, 20 * kinds * slower, 2400 * kinds / slower, 480.0)
    ladder, free = (play(spec, spec.compare[name], of, clocks) for name in ("ladder", "no policy"))
    assert ladder.commands > 0
    assert ladder.power.mean() < free.power.mean()
    with pytest.raises(InputError, match="no row policy is called 'lader': did you mean 'ladder'"):
        load_spec(str(EXAMPLE / "row.yaml"), RowSpec, {"compare.ladder.kind": "lader"}, category="experiments")
