"""Names of parts: all load, a wrong one names the nearest."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator

import pytest

from archsim import registry
from archsim.errors import InputError


@pytest.fixture
def entries(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two entries of a group of our own: one loads, one does not."""
    group = "archsim.test"
    fake = {
        "good": importlib.metadata.EntryPoint("good", "fractions:Fraction", group),
        "absent_module": importlib.metadata.EntryPoint("absent_module", "no_such_module:Part", group),
        "absent_class": importlib.metadata.EntryPoint("absent_class", "fractions:NoSuchPart", group),
    }
    monkeypatch.setattr(registry, "_entries", lambda _: fake)
    registry.find.cache_clear()
    yield
    registry.find.cache_clear()


def test_names_are_known_without_loading() -> None:
    assert "systolic_array" in registry.names("archsim.components")
    assert "transformer" in registry.names("archsim.workloads")
    assert registry.names("archsim.nothing_at_all") == []


@pytest.mark.usefixtures("entries")
def test_a_name_gives_its_class() -> None:
    from fractions import Fraction

    assert registry.find("archsim.test", "good") is Fraction


@pytest.mark.usefixtures("entries")
@pytest.mark.parametrize(
    ("name", "fragment"),
    [
        ("goood", "did you mean 'good'"),
        ("zzz", "known: absent_class, absent_module, good"),
        ("absent_module", "does not load: No module named"),
        ("absent_class", "does not load"),
    ],
)
def test_a_name_that_gives_none_says_why(name: str, fragment: str) -> None:
    with pytest.raises(InputError, match=fragment):
        registry.find("archsim.test", name)
