"""No reader crashes, hangs or takes all memory on inputs that are nearly right."""

from __future__ import annotations

from pathlib import Path

import pytest
from depth import examples

from archsim.cli import main

from .hunt import hunt
from .targets import TARGETS, Target

_INPUTS = examples(20_000)


def test_readers_read_or_refuse() -> None:
    assert [str(found) for found in hunt(_INPUTS)] == []


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_what_is_changed_was_right(target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    main(["new"])
    for seed in target.seeds:
        if target.file:
            Path(target.file).write_bytes(seed if isinstance(seed, bytes) else seed.encode())
        if target.name == "results":  # a whole one is large
            continue
        target.read(Path(target.file) if target.file else seed)
