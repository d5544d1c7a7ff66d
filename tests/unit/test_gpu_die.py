"""The floor plan of a GPU's die."""

from __future__ import annotations

import pytest

from archsim.config import load_spec
from archsim.machine import ChipSpec, Machine, SystemSpec


def blocks(chip, **overrides):
    spec = load_spec(chip, ChipSpec, overrides=overrides, category="chips")
    return {block: area for _, block, area in Machine(SystemSpec(name="x", chip=spec)).areas()}


def test_blocks_grow_with_their_parts_alone():
    plain = blocks("a100_sxm")
    for key, value, block, share in (
        ("cores", "64", "cores", 0.5),
        ("memory_stacks", "3", "memory PHY", 0.5),
        ("memory_stacks", "3", "memory control", 0.5),
        ("link_lanes", "96", "link PHY", 2.0),
        ("slice_bytes_per_cycle", "128", "interconnect", 2.0),
    ):
        other = blocks("a100_sxm", **{f"die.{key}": value})
        assert other[block] == pytest.approx(share * plain[block])
        if key != "memory_stacks":
            assert {b: a for b, a in other.items() if b != block} == {b: a for b, a in plain.items() if b != block}


def test_denser_logic_leaves_arrays_and_phys():
    plain, dense = blocks("a100_sxm"), blocks("a100_sxm", **{"die.logic_density": "2.0"})
    assert dense["memory PHY"] == plain["memory PHY"]
    assert dense["memory control"] == pytest.approx(plain["memory control"] / 2)
    assert plain["cores"] / 2 < dense["cores"] < plain["cores"]
    assert plain["L2"] / 2 < dense["L2"] < plain["L2"]


def test_disabled_parts_are_on_the_die():
    assert blocks("h200_sxm") == blocks("h100_sxm")
    assert blocks("a100_sxm", **{"engines.sm.count": "54"}) == blocks("a100_sxm")


def test_two_dies_are_twice_one():
    assert sum(blocks("mi250x").values()) == pytest.approx(2 * sum(blocks("mi210").values()))
