"""A router by what caches hold: its two steps, each at both sides of its edges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archsim.errors import InputError
from archsim.serving.cases import answers
from archsim.serving.prefix_aware import PrefixAware, PrefixAwareSpec
from archsim.workloads.sequences import Served


@dataclass
class Held:
    """A replica with so many requests, whose cache has so many blocks of any prompt."""

    load: int
    blocks: int

    def found(self, request: Served) -> int:
        return self.blocks


def chosen(held: list[tuple[int, int]], tokens: int = 1000, **told: Any) -> int:
    replicas: Any = [Held(*one) for one in held]
    return PrefixAware(PrefixAwareSpec(**told))(replicas, Served(0, 0, tokens, 1, (), 0))


@pytest.mark.parametrize(
    ("held", "told", "best"),
    [
        ([(5, 0), (9, 40)], {}, 1),  # 640 of 1,000 tokens are found
        ([(5, 0), (9, 18)], {}, 0),  # 288: not more than 300
        ([(5, 0), (9, 19)], {}, 1),
        ([(5, 0), (9, 18)], {"share": 0.28}, 1),
        ([(5, 40), (9, 40)], {}, 0),  # as much on both
        ([(1, 0), (65, 40)], {}, 1),  # 64 more
        ([(1, 0), (66, 40)], {}, 0),
        ([(130, 0), (195, 40)], {}, 1),  # 65 more, which are half as many again
        ([(129, 0), (195, 40)], {}, 0),
        ([(3, 0), (9, 40)], {"apart": 5}, 0),
        ([(3, 0), (3, 0)], {}, 0),
    ],
)
def test_caches_count_until_one_has_too_much_to_do(
    held: list[tuple[int, int]], told: dict[str, float], best: int
) -> None:
    assert chosen(held, **told) == best


@given(
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 60)), min_size=1, max_size=6),
    st.floats(0, 1),
    st.integers(0, 100),
)
def test_it_is_what_its_rule_says(held: list[tuple[int, int]], share: float, apart: int) -> None:
    loads = [load for load, _ in held]
    left_behind = max(loads) - min(loads) > apart and max(loads) > 1.5 * min(loads)
    most = max(blocks for _, blocks in held)
    of = [n for n, (_, blocks) in enumerate(held) if left_behind or most * 16 <= share * 1000 or blocks == most]
    least = min(loads[n] for n in of)
    assert chosen(held, share=share, apart=apart) == next(n for n in of if loads[n] == least)


def test_a_beginning_that_all_share_does_not_bring_all_to_one_replica() -> None:
    case = {"model": "llama-3.2-1b", "system": "h100_sxm", "rate": "200", "input": "600", "output": "20"}
    case |= {"system_prompt": "64", "requests": "60", "replicas": "2"}
    routers = "least_loaded", "prefix_aware", "prefix_aware:share=0"
    even, aware, blind = answers([{**case, "router": router} for router in routers])
    assert not isinstance(even, InputError)
    assert not isinstance(aware, InputError)
    assert not isinstance(blind, InputError)
    assert aware["ttft_mean_ms"] == even["ttft_mean_ms"] < blind["ttft_mean_ms"]
    wrong = answers([{**case, "router": "prefix_aware:shar=0.5"}])[0]
    assert "router: shar: unknown key: did you mean 'share'?" in str(wrong)
