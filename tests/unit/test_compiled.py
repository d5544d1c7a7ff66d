"""Compiled kernels are kept under what they are made of, outside the package, and do without a cache."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from depth import WHOLE

from archsim.compiled.kernel import kernel, routine

KERNEL = """
import numpy as np
from archsim.compiled.kernel import kernel
from helpers import Pair, helper
import helpers

@kernel
def answer(pair: Pair, number: int) -> int:
    return helper(number) + helpers.MORE + pair.first[0]

print(answer(Pair(np.array([10]), np.array([20])), 1))
"""
HELPERS = """
from typing import NamedTuple
import numpy as np
from archsim.compiled.kernel import part

SHIFT = 100
MORE = 1000

class Pair(NamedTuple):
    first: np.ndarray
    second: np.ndarray

@part
def helper(number: int) -> int:
    return number + SHIFT
"""

CHANGES = (
    ("number + SHIFT", "number - SHIFT", 1 - 100 + 1000 + 10),
    ("MORE = 1000", "MORE = 2000", 1 + 100 + 2000 + 10),
    ("SHIFT = 100", "SHIFT = 200", 1 + 200 + 1000 + 10),
    ("first: np.ndarray\n    second", "second: np.ndarray\n    first", 1 + 100 + 1000 + 20),
)


def asked(folder: Path, helpers: str, cache: Path) -> tuple[int, str, set[str]]:
    """The kernel's answer, what is on stderr, and the compiled versions of it that are kept."""
    (folder / "kernels.py").write_text(KERNEL)
    (folder / "helpers.py").write_text(helpers)
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache), "PYTHONDONTWRITEBYTECODE": "1"}
    run = subprocess.run([sys.executable, "kernels.py"], cwd=folder, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    kept = {file.name for file in cache.glob("kernels/*answer*")} if cache.is_dir() else set()
    return int(run.stdout), run.stderr, kept


def test_a_kernel_follows_every_file_that_it_is_made_of(tmp_path: Path) -> None:
    package, cache = tmp_path / "package", tmp_path / "cache"
    package.mkdir()
    before = asked(package, HELPERS, cache)
    assert before[:2] == (1 + 100 + 1000 + 10, "")
    assert len(before[2]) == 1
    assert asked(package, HELPERS + "# a comment\n", cache) == before, "it is not compiled again"
    for old, new, right in CHANGES if WHOLE else CHANGES[:2]:
        assert asked(package, HELPERS.replace(old, new), cache)[0] == right
    assert asked(package, HELPERS, cache)[0] == before[0]
    assert sorted(file.name for file in package.iterdir()) == ["helpers.py", "kernels.py"], "no file beside the source"


def test_without_a_cache_it_says_so_once(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("no folder")
    answer, said, _ = asked(tmp_path, HELPERS, tmp_path / "taken")
    assert answer == 1111
    assert said.count("kernels are compiled in every run") == said.count("\n") == 1


@pytest.mark.parametrize("empty", ["", "here"])
def test_a_variable_that_names_no_folder_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty: str
) -> None:
    from archsim.compiled.kernel import folder

    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", empty)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert folder() == tmp_path / ".cache" / "archsim" / "kernels"


def test_a_broken_file_in_the_cache_is_made_anew(tmp_path: Path) -> None:
    asked(tmp_path, HELPERS, tmp_path / "cache")
    for file in tmp_path.glob("cache/kernels/*"):
        file.write_bytes(file.read_bytes()[:100])
    answer, said, _ = asked(tmp_path, HELPERS, tmp_path / "cache")
    assert (answer, said) == (1111, "")


def test_what_cannot_be_told_apart_is_refused() -> None:
    from archsim.compiled.content import content
    from archsim.compiled.kernel import kernel

    unclear = {1: 2}

    def reads() -> int:
        return unclear[1]

    with pytest.raises(TypeError, match="no digest"):
        content(kernel(reads))


def test_a_routine_stands_only_within_kernels() -> None:
    @routine
    def twice(number: int) -> int:
        return 2 * number

    @kernel
    def more(number: int) -> int:
        return twice(number) + 1

    assert more(3) == 7
    with pytest.raises(TypeError, match="twice stands only within kernels"):
        twice(3)
