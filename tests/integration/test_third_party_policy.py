"""Policies from other packages, of a row and of replicas that serve, are found, checked and played like ours."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from archsim import registry
from archsim.alone.serve import QUESTION
from archsim.alone.sheet import ask
from archsim.config import load_spec
from archsim.errors import InputError
from archsim.servers.phases import Phases
from archsim.servers.row import clocks_hz, play
from archsim.servers.spec import RowSpec
from archsim.serving.deploy import engine_named

EXAMPLES = Path(__file__).parents[2] / "examples"
EXAMPLE = EXAMPLES / "third_party_policy"


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """With the dist-infos that an installer would write: their entry points as their pyproject.toml declare them."""
    for example in (EXAMPLE, EXAMPLES / "third_party_serving"):
        project = tomllib.loads((example / "pyproject.toml").read_text())["project"]
        info = tmp_path / f"{project['name'].replace('-', '_')}-0.1.0.dist-info"
        info.mkdir()
        told = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
        (info / "METADATA").write_text(told)
        (info / "entry_points.txt").write_text(
            "".join(
                f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in entries.items())
                for group, entries in project["entry-points"].items()
            )
        )
        monkeypatch.syspath_prepend(example)
    monkeypatch.syspath_prepend(tmp_path)
    for cached in (registry._entries, registry.find):
        cached.cache_clear()
    yield
    for cached in (registry._entries, registry.find):
        cached.cache_clear()


def test_it_is_listed_played_and_named_where_it_is_misspelt() -> None:
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


def test_policies_of_engines_routers_and_autoscalers_serve_and_are_named_where_they_are_misspelt() -> None:
    assert "two_choices" in registry.names("archsim.routers")
    assert "timetable" in registry.names("archsim.autoscalers")
    asked = {"model": "llama-3.2-1b", "system": "h100_sxm", "rate": "20", "input": "100", "output": "20"}
    table = "timetable:times_s=[1, 3]:replicas=[3, 1]:most=4:start_s=0.5:every_s=0.5"
    engine = str(EXAMPLES / "third_party_serving" / "engine.yaml")
    told = ask(QUESTION, {**asked, "requests": "120", "engine": engine, "router": "two_choices", "autoscale": table})
    assert (told["completed"], told["most_replicas"], told["starts"]) == (120, 3, 2)
    assert told["replica_hours"] * 3600 == pytest.approx(told["duration_s"] + 2 * 2.0, abs=0.5)
    with pytest.raises(InputError, match="no router is called 'two_choice': did you mean 'two_choices'"):
        ask(QUESTION, {**asked, "router": "two_choice"})
    with pytest.raises(InputError, match="policy: no engine policy is called 'crowd': did you mean 'crowded'"):
        engine_named(engine, policy="crowd")
    with pytest.raises(InputError, match="did you mean 'times_s'"):
        ask(QUESTION, {**asked, "autoscale": table.replace("times_s", "time_s")})
