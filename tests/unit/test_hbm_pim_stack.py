"""HBM-PIM as an engine: the exact stream of each product, refresh in the mean, what it leaves to its host."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.components.pim import hbm_pim
from archsim.components.pim.hbm_pim_stack import HbmPim, HbmPimSpec
from archsim.errors import InputError
from archsim.model.component import Work
from archsim.runs import run
from archsim.timebase import Timebase
from archsim.workloads.op import DType, MatMul, Role


def stack(**spec: object) -> HbmPim:
    return HbmPim(HbmPimSpec.model_validate(spec), "chip.pim", Timebase([10**9]), 10**9)


def product(m: object = 1, k: int = 256, n: int = 4096, **other: object) -> MatMul:
    return MatMul(name="x", m=m, k=k, n=n, **({"left_dtype": DType.FP16, "right_dtype": DType.FP16} | other))


def work(pim: HbmPim, op: MatMul) -> Work:
    return pim.work(op)


@settings(deadline=None)
@given(st.integers(1, 9000), st.integers(1, 1000))
def test_a_product_takes_the_cycles_of_its_stream(n: int, k: int) -> None:
    done = work(stack(refresh=False), product(k=k, n=n))
    assert done.cycles == hbm_pim.gemv(n, k, refresh=False).cycles
    tiles = -(-n // 4096) * -(-k // 128)
    assert done.actions["mac_column"] * 16 == tiles * 4096 * 128  # padded to whole tiles
    assert done.useful <= done.actions["mac_column"] * 16


@settings(deadline=None)
@given(st.integers(1, 16), st.integers(1, 4))
def test_vectors_follow_each_other(m: int, groups: int) -> None:
    one, all_of_them = (work(stack(refresh=False), op) for op in (product(), product(m=m, groups=groups)))
    assert all_of_them.cycles == m * groups * one.cycles
    assert all_of_them.actions == {name: m * groups * count for name, count in one.actions.items()}


def test_half_the_channels_take_twice_the_tiles() -> None:
    few, many = (work(stack(refresh=False, channels=c), product(n=8192)) for c in (32, 64))
    assert few.cycles == hbm_pim.gemv(16384, 256, refresh=False).cycles
    assert few.actions["mac_column"] == many.actions["mac_column"]


def test_refresh_in_the_mean_is_that_of_a_long_stream() -> None:
    exact = hbm_pim.gemv(16384, 4096).cycles
    assert work(stack(), product(k=4096, n=16384)).cycles == pytest.approx(exact, rel=0.01)
    assert work(stack(refresh=False), product(k=4096, n=16384)).cycles < exact


@pytest.mark.parametrize(
    ("op", "taken"),
    [
        (product(m=4), True),
        (product(m=5), False),
        (product(right_dtype=DType.BF16), False),
        (product(right=Role.KV), False),
        (product(m=np.array([1, 2])), False),
    ],
)
def test_it_takes_few_vectors_times_weights_in_fp16(op: MatMul, taken: bool) -> None:
    pim = stack(max_rows=4)
    assert pim.supports(op) is taken
    if not taken:
        with pytest.raises(InputError, match="an hbm_pim does not compute the matmul 'x'"):
            pim.work(op)


def test_a_run_splits_between_stacks_and_host() -> None:
    """All weights are multiplied in the stacks at batch 1, and by the host where a batch is larger than they take."""
    alone, batch = (run("gpt2_xl_on_hbm_pim", {"workload.output": 2, "workload.batch": b}) for b in (1, 17))
    assert {row.engine for row in alone.ops().itertuples() if row.kind == "matmul"} == {"chip.pim"}
    assert "chip.pim" not in set(batch.ops()["engine"])
