"""The PIM engine: what it takes, cycles and row hits, actions that add up, refresh in the mean, prices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from depth import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from archsim.components.pim.mapping import Banks, concatenated_heads, products
from archsim.components.pim.pim_channel import PimChannel, PimChannelSpec
from archsim.components.pim.stream_kernel import stream
from archsim.errors import InputError
from archsim.model.technology import MissingEntry, Technology, TechnologySpec
from archsim.timebase import Timebase
from archsim.workloads.op import Attention, DType, MatMul, Role, Vector

# A GDDR6 channel at 1 GHz in the manner of PIM-GPT (npj Unconventional Computing 2024).
SPEC: dict[str, Any] = {
    "kind": "pim_channel",
    "channels": 8,
    "banks": 16,
    "mac_width": 16,
    "dtype": "bf16",
    "row": "2 KiB",
    "buffer": "2 KiB",
    "capacity": "512 MiB",
    "timing": {
        "act_to_mac": 12,
        "mac_to_mac": 1,
        "mac_to_pre": 2,
        "act_to_pre": 30,
        "pre_to_act": 12,
        "act_to_act": 42,
        "write_to_write": 1,
        "read_to_write": 3,
        "mac_to_read": 1,
        "read_latency": 2,
        "refresh_interval": 6825,
        "refresh_cycle": 455,
    },
}
NO_TECHNOLOGY = Technology(TechnologySpec(name="none", node_nm=7, entries={}))
GHZ = 10**9


def channel(**changes: Any) -> PimChannel:
    return PimChannel(PimChannelSpec.model_validate(SPEC | changes), "pim", Timebase([GHZ]), GHZ)


def matmul(**sizes: Any) -> MatMul:
    return MatMul(**{"name": "op", "m": 1, "k": 2048, "n": 2048} | sizes)


def attention(**sizes: Any) -> Attention:
    return Attention(
        **{
            "name": "op",
            "batch": 1,
            "heads": 16,
            "kv_heads": 16,
            "q_len": 1,
            "kv_len": 512,
            "head_dim": 64,
            "v_head_dim": 64,
        }
        | sizes
    )


def test_it_takes_what_lies_in_the_banks() -> None:
    pim = channel()
    assert pim.supports(matmul())
    assert pim.supports(matmul(right=Role.KV, m=16))
    assert pim.supports(attention())
    assert pim.resident_roles() == {Role.WEIGHT, Role.KV}
    for op in (
        matmul(m=17),
        matmul(right=Role.ACTIVATION),
        matmul(right_dtype=DType.INT8),
        attention(q_len=2),
        attention(kv_shared=True),
        attention(kv_dtype=DType.FP8),
        Vector(name="v", function="gelu", rows=1, width=8),
    ):
        assert not pim.supports(op)
        with pytest.raises(InputError, match="does not compute"):
            pim.work(op)


def test_dense_rows_are_used_to_the_end() -> None:
    work = channel().work(matmul())
    assert work.detail["row_hit_rate"] == pytest.approx(1 - 1 / 64)
    assert work.actions["mac_column"] * 16 == 2048 * 2048
    assert work.actions["activate"] == 2048 * 2048 // 1024
    assert work.useful == 2048 * 2048
    # 128 columns of 16 for each of 16 tiles, at the very least.
    assert 2048 < channel(refresh=False).work(matmul()).cycles < 2 * 2048


@settings(max_examples=examples(40), deadline=None)
@given(
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 5000),
    st.integers(1, 3000),
    st.sampled_from(["dense", "aligned"]),
)
def test_every_weight_is_multiplied(m: int, groups: int, k: int, n: int, layout: str) -> None:
    pim = channel(layout=layout, refresh=False)
    work = pim.work(matmul(m=m, k=k, n=n, groups=groups))
    tiles = -(-n // 16)
    assert work.actions["mac_column"] == m * groups * tiles * 16 * -(-k // 16)
    assert work.actions["accumulator_read"] == work.actions["accumulator_write"] == m * groups * tiles * -(-k // 1024)
    assert work.detail["partial_sums"] == m * groups * n * (-(-k // 1024) - 1)
    assert work.cycles * pim.peak_macs_per_cycle() >= work.useful
    assert 0 <= work.detail["row_hit_rate"] < 1


def test_channels_share_the_work() -> None:
    one = channel(channels=1, refresh=False).work(matmul(k=1024, n=8192)).cycles
    eight = channel(refresh=False).work(matmul(k=1024, n=8192)).cycles
    assert 7.5 < one / eight <= 8


def test_arrays_answer_as_their_entries() -> None:
    pim = channel()
    keys = np.array([[1, 100], [128, 1025]], dtype=np.int64)
    many = pim.work(attention(kv_len=keys))
    for at in np.ndindex(2, 2):
        one = pim.work(attention(kv_len=int(keys[at])))
        assert np.asarray(many.cycles)[at] == one.cycles
        assert many.detail["row_hit_rate"][at] == one.detail["row_hit_rate"]
        assert many.detail["softmax_elements"][at] == one.detail["softmax_elements"] == 16 * keys[at]
        for action, count in one.actions.items():
            assert np.asarray(many.actions[action])[at] == count


@settings(max_examples=examples(40), deadline=None)
@given(
    st.integers(1, 2),
    st.integers(1, 6),
    st.integers(1, 4),
    st.sampled_from([64, 80, 128]),
    st.integers(1, 700),
)
def test_attention_multiplies_every_key_and_value(batch: int, heads: int, queries: int, dim: int, keys: int) -> None:
    work = channel(refresh=False).work(
        attention(batch=batch, heads=heads * queries, kv_heads=heads, head_dim=dim, v_head_dim=dim, kv_len=keys)
    )
    pairs = batch * heads * queries
    scores = -(-keys // 16) * 16 * (dim // 16)
    values = -(-dim // 16) * 16 * -(-keys // 16)
    assert work.actions["mac_column"] == pairs * (scores + values)


def test_a_window_bounds_the_keys() -> None:
    pim = channel()
    assert pim.work(attention(kv_len=4096, window=256)).cycles == pim.work(attention(kv_len=256)).cycles


def test_concatenated_heads_fill_rows() -> None:
    banks = Banks(8, 16, 16, 64, 64)
    together = concatenated_heads(banks, 1, 16, 1, 64, 1024)
    apart = products(banks, 16, 1, 64, 1024, "aligned", split=False)
    timing = channel().spec.timing
    assert [s.channels for s in together] == [8]
    near = stream(together[0].segments, timing, 64, refresh=False)
    far = stream(apart[0].segments, timing, 64, refresh=False)
    assert near.macs == far.macs == 16 * 8 * 4
    assert near.activates == 8  # 16 heads of 4 columns are a row
    assert far.activates == 128
    assert near.cycles < far.cycles


@pytest.mark.parametrize("k", [1024, 4096])
def test_refresh_in_the_mean_is_near_the_exact_stream(k: int) -> None:
    pim = channel()
    share = products(pim.banks, 1, 1, k, 65536, "dense", split=False)[0]
    exact = stream(share.segments, pim.spec.timing, 64, refresh=True)
    assert exact.refreshes > 5
    mean = pim.work(matmul(k=k, n=65536)).cycles
    assert isinstance(mean, int)
    assert mean == pytest.approx(exact.cycles, rel=0.01)
    assert channel(refresh=False).work(matmul(k=k, n=65536)).cycles < exact.cycles


def test_prices() -> None:
    own = {
        f"energy_{name}": "1 nJ"
        for name in (
            "activate",
            "mac_column",
            "buffer_write",
            "accumulator_write",
            "accumulator_read",
            "refresh",
        )
    }
    pim = channel(**own, standby="100 mW", area="50 mm2")
    assert set(pim.energy_per_action(NO_TECHNOLOGY)) == set(pim.work(matmul()).actions)
    assert pim.leakage_w(NO_TECHNOLOGY) == pytest.approx(8 * (0.1 + 1e-9 * GHZ / 6825))
    assert pim.area_mm2(NO_TECHNOLOGY) == {"channels": 400.0}
    for ask in (channel().energy_per_action, channel().leakage_w, channel().area_mm2):
        with pytest.raises(MissingEntry, match="pim_"):
            ask(NO_TECHNOLOGY)
    assert channel().capacity_bytes == 4 * 2**30


def test_nonsense_is_refused() -> None:
    for wrong in (
        {"row": "100 B"},
        {"buffer": "16 B"},
        {"banks": 0},
        {"timing": {}},
        {"layout": "scattered"},
    ):
        with pytest.raises(ValidationError):
            channel(**wrong)
    stuck = channel(timing=SPEC["timing"] | {"refresh_interval": 400})
    with pytest.raises(InputError, match="refresh"):
        stuck.work(matmul())
