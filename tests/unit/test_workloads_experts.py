"""Expert loads: exact sums, seeded draws, recorded tables, and placement on ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import archsim
from archsim.config import load_spec
from archsim.errors import InputError
from archsim.workloads.expert_placement import busiest, place
from archsim.workloads.mixture_of_experts import (
    Router,
    RoutingSpec,
    drawn_counts,
    expected_counts,
    recorded_shares,
)
from archsim.workloads.model import MixtureSpec, ModelSpec
from archsim.workloads.transformer import TransformerWorkload
from archsim.workloads.transformer_spec import TransformerSpec

TABLE = Path(archsim.__file__).resolve().parents[2] / "shared" / "traces" / "moe_expert_counts.csv"
needs_table = pytest.mark.skipif(not TABLE.is_file(), reason="the published counts are not beside the repository")

shares = (
    st.lists(st.floats(0, 1), min_size=1, max_size=20)
    .filter(lambda s: sum(s) > 1e-6)
    .map(lambda s: np.array(s) / sum(s))
)


@settings(deadline=None)
@given(shares=shares, tokens=st.integers(0, 3000), data=st.data())
def test_counts_sum_exactly_and_no_expert_sees_a_token_twice(shares: Any, tokens: int, data: st.DataObject) -> None:
    top_k = data.draw(st.integers(1, len(shares)))
    drawn = drawn_counts(shares, tokens, top_k, np.random.default_rng(tokens))
    for counts in (expected_counts(shares, tokens, top_k), drawn):
        assert counts.sum() == tokens * top_k
        assert counts.min() >= 0
        assert counts.max() <= tokens


def test_rounding_is_by_largest_remainder() -> None:
    assert expected_counts(np.array([0.5, 0.3, 0.2]), 7, 1).tolist() == [4, 2, 1]  # 3.5, 2.1, 1.4
    assert expected_counts(np.full(4, 0.25), 3, 2).tolist() == [2, 2, 1, 1]
    # an expert that is wanted by every token leaves the rest to the others
    assert expected_counts(np.array([0.9, 0.05, 0.05]), 10, 2).tolist() == [10, 5, 5]


def router(kind: str, tokens: int = 4096, seed: int = 0, layer: int = 0, phase: int = 0, **fields: Any) -> list[int]:
    moe = MixtureSpec(experts=64, experts_per_token=8, expert_intermediate=8)
    spec = RoutingSpec.model_validate({"kind": kind, **fields})
    return list(Router(spec, moe, 16, seed).counts(layer, tokens, phase))


def test_kinds_of_routing_are_as_uneven_as_they_say() -> None:
    assert set(router("balanced")) == {512}
    assert 400 < min(router("uniform")) < 512 < max(router("uniform")) < 620
    assert set(router("uniform", sample=False)) == {512}
    most = [max(router("zipf", skew=skew)) for skew in (0.25, 0.5, 1.0, 2.0)]
    assert most == sorted(most)
    assert most[-2:] == [4096, 4096]  # wanted by every token
    assert max(router("dirichlet", skew=100.0)) < max(router("dirichlet", skew=0.3))
    assert sum(router("dirichlet", skew=1e-3)) == 4096 * 8


def test_draws_follow_the_seed_the_layer_and_the_phase() -> None:
    assert router("uniform") == router("uniform")
    told = [router("zipf"), router("zipf", seed=1), router("zipf", layer=1), router("zipf", phase=1)]
    assert len({tuple(counts) for counts in told}) == 4
    # the popular experts of a layer are the same in every phase
    assert int(np.argmax(told[0])) == int(np.argmax(told[3]))


def test_a_lone_token_visits_distinct_experts() -> None:
    for kind in ("balanced", "uniform", "zipf", "dirichlet"):
        assert sorted(router(kind, tokens=1))[-9:] == [0] + [1] * 8


def test_experts_are_placed_in_order_and_the_busiest_rank_is_found() -> None:
    assert place((1, 2, 3, 4), 2) == [(1, 2), (3, 4)]
    assert busiest([(4, 0), (1, 3), (1, 2)]) == (1, 3)
    with pytest.raises(InputError, match="4 experts do not divide among 3 ranks: expert_parallel must divide 4"):
        place((1, 2, 3, 4), 3)


@given(counts=st.lists(st.integers(0, 1000), min_size=1, max_size=12), ranks=st.integers(1, 8), spare=st.integers(0, 3))
def test_copies_keep_all_tokens_and_never_worsen_the_busiest(counts: list[int], ranks: int, spare: int) -> None:
    redundant = (-len(counts)) % ranks + spare * ranks
    loads = place(counts, ranks, redundant)
    assert len(loads) == ranks
    assert {len(load) for load in loads} == {(len(counts) + redundant) // ranks}
    assert sum(map(sum, loads)) == sum(counts)
    if redundant and not spare:
        assert sum(busiest(loads)) >= -(-sum(counts) // ranks)


ROWS = "model,kind,domain,layer,expert,count\nm,expert_counts,book,0,0,30\nm,expert_counts,book,0,1,10\n"


def table(folder: Path, text: str, **fields: Any) -> RoutingSpec:
    path = folder / "counts.csv"
    path.write_text(text)
    return RoutingSpec.model_validate({"kind": "table", "path": str(path), "sample": False, **fields})


@pytest.mark.parametrize("tensor", [1, 2])
def test_tokens_travel_to_their_experts_or_to_all_ranks(tensor: int) -> None:
    """Gathered, each rank has the tokens of all, and their experts' results are summed on the way back: nothing is
    left to sum at home."""
    exchanges = {}
    for how in ("tokens", "gather"):
        spec = TransformerSpec.model_validate(
            {
                "model": load_spec("olmoe-1b-7b", ModelSpec, category="models"),
                "input": 1,
                "output": 3,
                "batch": 64,
                "tensor_parallel": tensor,
                "expert_parallel": 8,
                "data_parallel": 8 // tensor,
                "phases": ["decode"],
                "expert_exchange": how,
            }
        )
        segment = TransformerWorkload(spec).program().segments[0]
        exchanges[how] = {op.name: op for block in segment.blocks for op in block.ops}
    tokens, hidden = 64 // 8, 2048  # of a rank: those of a replica are dealt over its ranks
    there: Any
    back: Any
    there, back = exchanges["gather"]["dispatch"], exchanges["gather"]["combine"]
    assert (there.collective, back.collective) == ("all_gather", "reduce_scatter")
    assert there.bytes == back.bytes == 2 * 8 * tokens * hidden
    assert exchanges["tokens"]["dispatch"].collective == "all_to_all"
    alone, summed = (exchanges[how]["experts_sum"] for how in ("gather", "tokens"))
    assert (alone.within, alone.inputs) == ("experts_down", 1)
    assert (summed.within, summed.inputs) == ("", 8)
    for name in ("experts_gate_up", "experts_down"):
        assert exchanges["gather"][name] == exchanges["tokens"][name]


def test_recorded_counts_are_shares(tmp_path: Path) -> None:
    spec = table(tmp_path, ROWS + "m,expert_counts,book,7,2,5\n")
    moe = MixtureSpec(experts=3, experts_per_token=1, expert_intermediate=8)
    loads = [Router(spec, moe, 4, 0).counts(layer, 100, 0) for layer in range(4)]
    assert loads == [(75, 25, 0), (75, 25, 0), (0, 0, 100), (0, 0, 100)]


@pytest.mark.parametrize(
    ("text", "fields", "said"),
    [
        ("a,b\n1,2\n", {}, "has no column 'model'"),
        (ROWS.replace(",30", ",x"), {}, r":2:1: layer, expert and count are whole numbers"),
        (ROWS.replace(",30", ",-1"), {}, r":2:1: layer, expert and count are whole numbers, not negative"),
        (ROWS, {"model": "n"}, "no model is called 'n': known: m"),
        (ROWS, {"domain": "boo"}, "did you mean 'book'"),
        (ROWS, {"counts": "expert_count"}, "did you mean 'expert_counts'"),
        (ROWS + "m,expert_counts,code,0,0,1\n", {}, "several of 'domain': say which; known: book, code"),
        (ROWS + "m,expert_counts,book,0,9,1\n", {}, "has 10 experts of 'm', the model has 3"),
        (ROWS.replace("30", "0").replace("10\n", "0\n"), {}, "layer 0 of 'm' has no tokens"),
        ("model,kind,domain,layer,expert,count\n", {}, "holds no rows"),
    ],
)
def test_a_wrong_table_is_told(tmp_path: Path, text: str, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        recorded_shares(table(tmp_path, text, **fields), 3)


def test_a_table_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        recorded_shares(RoutingSpec(kind="table", path=str(tmp_path / "none.csv")), 3)
    with pytest.raises(ValidationError, match="go together"):
        RoutingSpec(kind="zipf", path="x.csv")


@needs_table
def test_the_published_counts_are_read() -> None:
    spec = RoutingSpec(kind="table", path=str(TABLE), model="olmoe", domain="github", sample=False)
    recorded = recorded_shares(spec, 64)
    assert len(recorded) == 3
    # 160762 of 1671168 visits in the recorded middle layer are one expert's
    assert recorded[1].max() == pytest.approx(160762 / 1671168)
    moe = MixtureSpec(experts=64, experts_per_token=8, expert_intermediate=1024)
    counts = Router(spec, moe, 16, 0).counts(8, 208_896, 0)  # the recorded number of tokens
    assert max(counts) == 160762
    assert sum(counts) == 1671168
