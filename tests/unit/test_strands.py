"""Sums over ranks that pass while the other strand computes, and kernels beside them."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archsim.components.compute.gpu_sm import GpuSm
from archsim.config import load_spec
from archsim.errors import InputError
from archsim.machine import Machine, SystemSpec
from archsim.mapper import Mapper
from archsim.model.component import MatrixEngine, MemoryView
from archsim.model.lowered import Lowered
from archsim.runs import run
from archsim.serving.deploy import Deployment, engine_named, placed
from archsim.sim.schedule import schedule
from archsim.workloads.model import ModelSpec
from archsim.workloads.op import Collective, MatMul, Op, Vector
from archsim.workloads.program import Program
from archsim.workloads.shape import Shape
from archsim.workloads.strands import laddered, woven

TICKS = st.integers(0, 50)
VIEW = MemoryView(10**12, 2**25, False, False, 0.0)
NVLINK = {"library": {"libraries": ["multimem_norm", "nccl"], "device": "h100_sxm"}}


def _sum(name: str) -> Collective:
    return Collective(name=name, collective="all_reduce", bytes=8, ranks=2, producer=name.removesuffix("_all_reduce"))


def _op(name: str) -> Vector:
    return Vector(name=name, function="rmsnorm", rows=1, width=1)


def _layer() -> tuple[Op, ...]:
    attention = _op("attention_norm"), _op("out"), _sum("out_all_reduce"), _op("attention_residual")
    return (*attention, _op("mlp_norm"), _op("down"), _sum("down_all_reduce"), _op("mlp_residual"))


def _length(blocks: list[tuple[Op, ...]], ticks: dict[str, int]) -> int:
    """Of blocks whose ops take ticks by their names, one engine and one network."""

    def lowered(op: Op) -> Lowered:
        server = "network" if isinstance(op, Collective) else "host" if op.name == "turn" else "engine"
        return Lowered(op, server, {server: ticks.get(op.name, 0)})

    return int(schedule([([lowered(op) for op in ops], 1) for ops in blocks]).step_ticks)


def _in_turns(sections: list[tuple[int, int]]) -> int:
    """The twin: when all sections (front and body, sum) of two strands in turns have ended."""
    computed = summed = before = 0
    for took, passed in sections:
        begin = max(computed, before)  # its own strand's sum, two sections ago
        before = summed
        computed = begin + took
        summed = max(computed, summed) + passed
    return max(computed, summed)


@given(layers=st.integers(1, 4), times=st.tuples(*[TICKS] * 8))
def test_a_ladder_takes_what_its_twin_does(layers: int, times: tuple[int, ...]) -> None:
    layer = _layer()
    ticks = dict(zip((op.name for op in layer), times, strict=True))
    norm, out, out_sum, added, mlp_norm, down, down_sum, mlp_added = times
    later = [(added + norm + out, out_sum), (mlp_added + mlp_norm + down, down_sum)]
    sections = [(norm + out, out_sum), (mlp_norm + down, down_sum), *later * (layers - 1), (added, 0), (mlp_added, 0)]
    assert _length(list(laddered([layer] * layers)), ticks) == _in_turns(sections)


@given(layers=st.integers(1, 4), times=st.tuples(*[TICKS] * 12))
def test_halves_take_what_their_twin_does(layers: int, times: tuple[int, ...]) -> None:
    # Norms are the end of sums, as engines that weave have them.
    layer = tuple(op for op in _layer() if op.name.endswith(("out", "down", "all_reduce")))
    names = [half + op.name for half in ("a.", "b.") for op in layer]
    ticks = dict(zip(names, times, strict=False))
    a_out, a_out_sum, a_down, a_down_sum, b_out, b_out_sum, b_down, b_down_sum = (ticks[name] for name in names)
    sections = [(a_out, a_out_sum), (b_out, b_out_sum), (a_down, a_down_sum), (b_down, b_down_sum)]
    assert _length(list(woven([(layer, layer)] * layers)), ticks) == _in_turns(sections * layers)


def test_equal_layers_are_the_same_block_from_the_second_on() -> None:
    layer = _layer()
    first, second, third, last = laddered([layer] * 3)
    assert second is third is not first
    assert [op.name for op in last] == ["down_all_reduce", "attention_residual", "mlp_residual"]


@given(
    decodes=st.integers(0, 600),
    prompts=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 400), st.integers(0, 100)), max_size=4),
)
def test_halves_are_the_whole(decodes: int, prompts: list[tuple[int, int, int]]) -> None:
    shape = Shape(decodes=decodes, keys=160, prompts=tuple((n, q, q + cached) for n, q, cached in prompts))
    if decodes + sum(n * q for n, q, _ in prompts) < 256:
        return
    first, second = shape.halves()
    assert sum(shape.half_tokens) == shape.tokens
    assert first.decodes + second.decodes == decodes
    each = [half.decodes + sum(n * q for n, q, _ in half.prompts) for half in (first, second)]
    assert each[0] == min(shape.half_tokens[0], sum(each))
    assert sum(each) == decodes + sum(n * q for n, q, _ in prompts)
    # All that a query of a prompt sees: the pairs of the first part and of the second are those of the whole.
    pairs = [sum(n * sum(range(k - q + 1, k + 1)) for n, q, k in s.prompts) for s in (first, second, shape)]
    assert pairs[0] + pairs[1] == pairs[2]


# --- what is beside what


def _machine() -> Machine:
    return Machine(load_spec("dgx_h100", SystemSpec, {"network.library": NVLINK["library"]}, category="systems"))


def _product(m: int, n: int = 8192, k: int = 3584) -> MatMul:
    return MatMul(name="product", m=m, k=k, n=n)


@pytest.mark.parametrize(
    ("product", "share"),
    [
        (_product(8192), Fraction(9, 8)),  # 2,048 tiles of 256 x 128, 264 at a time: eight waves
        (_product(4096), Fraction(5, 4)),
        (_product(1024), Fraction(2)),  # 256 tiles, two for each of 128 SMs: 124 are left
        (_product(1024, 7168, 8192), Fraction(1)),  # 224 tiles on 112 SMs
        (_product(128), Fraction(2)),
        (_product(1), Fraction(1)),
    ],
)
def test_products_beside_a_kernel_of_eight_sms(product: MatMul, share: Fraction) -> None:
    engine = _machine().engines["chip.sm"]
    assert isinstance(engine, MatrixEngine)
    assert engine.crowded(product, 8, VIEW) == share


def test_products_of_few_rows_wait_for_the_part_of_an_sm() -> None:
    engine = _machine().engines["chip.sm"]
    assert isinstance(engine, GpuSm)
    assert engine.spec.released is not None
    assert engine.spec.released.gemm is not None
    alone = engine.spec.released.gemm.feed_bytes_per_cycle["wgmma"] * engine.clock_hz
    for rows in (2, 127):
        assert engine.crowded(_product(rows), 8, VIEW) == pytest.approx(1 + 10**12 / 132 / alone)


def test_a_kernel_that_leaves_no_sm_is_refused() -> None:
    engine = _machine().engines["chip.sm"]
    assert isinstance(engine, MatrixEngine)
    assert engine.crowded(_product(1), 131, VIEW) == 1
    with pytest.raises(InputError, match="132 SMs of 132 are held by another kernel: none is left for 'product'"):
        engine.crowded(_product(1), 132, VIEW)


def test_only_what_overlaps_is_longer() -> None:
    machine = _machine()
    mapper = Mapper(machine, machine.place(Program("products", ())))
    product = _product(4096)
    alone = mapper.lower(product).body["chip.sm"]
    for size in (2**16, 2**27):
        sums = Collective(name="sums", collective="all_reduce", bytes=size, ranks=8)
        ops = [sums, *(replace(product, name=f"product.{i}", after=(), beside="sums") for i in range(4))]
        lowered = mapper.lower_block(ops)
        left = int(lowered[0].body["network"])
        for each in lowered[1:]:
            longer = min(-(-alone // 4), max(left, 0))
            assert each.body["chip.sm"] == alone + longer
            left -= max(int(t) for t in each.busy().values())
    gather = [replace(sums, collective="all_gather"), replace(ops[1], beside="sums")]
    assert mapper.lower_block(gather)[1].body["chip.sm"] == alone  # NCCL's gather holds none that is known


# --- models and engines


def _small(**changes: object) -> dict[str, object]:
    return {"extends": "llama-3.1-8b", "layers": 4, **changes}


def _times(**model: object) -> dict[int, float]:
    found = {}
    for ranks in (1, 2, 8):
        workload = {"kind": "transformer", "model": _small(**model), "input": 64, "output": 3, "dtype": "bf16"}
        system = {"extends": "dgx_h100", "network": NVLINK}
        asked = {"name": "ladder", "system": system, "workload": {**workload, "tensor_parallel": ranks}}
        result = run(asked)
        assert run(asked, brute_force=True).time_s == result.time_s
        found[ranks] = result.time_s
    return found


def test_a_ladder_hides_sums_and_no_more() -> None:
    plain, ladder, apart = (_times(residual=how) for how in ("summed", "ladder", "apart"))
    assert plain[1] == ladder[1] == apart[1]
    assert all(apart[n] < ladder[n] < plain[n] for n in (2, 8))


@pytest.mark.parametrize(("ranks", "replicas"), [(8, 1), (4, 2)])
def test_a_run_takes_the_times_of_its_library(ranks: int, replicas: int) -> None:
    split = {"tensor_parallel": ranks, "data_parallel": replicas, "batch": replicas}
    workload = {"kind": "transformer", "model": _small(), "input": 64, "output": 2, **split}
    asked = {"name": "sums", "system": {"extends": "dgx_h100", "network": NVLINK}, "workload": workload}
    result = run(asked)
    assert run(asked, brute_force=True).time_s == result.time_s
    sums = [row for row in result.op_rows if row["name"].endswith("all_reduce") and "layer" in row["name"]]
    for each in sums:
        assert each["duration_s"] == pytest.approx(each["busy_s"]["network"])
        assert each["why"].endswith("multimem_norm")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"residual": "ladder", "norm_position": "post"}, "residual: ladder is of layers of attention and MLP"),
        ({"residual": "ladder", "parallel_attention": True}, "residual: ladder is of layers of attention and MLP"),
        ({"residual": "stairs"}, "residual"),
    ],
)
def test_models_that_are_no_ladder_are_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        load_spec("llama-3.1-8b", ModelSpec, changes, category="models")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"residual": "ladder", "stages": 2}, "a ladder, and weave_tokens, are of models that are not cut into stages"),
        ({"engine": engine_named("vllm", weave_tokens=512), "stages": 2}, "not cut into stages"),
        ({"engine": engine_named("vllm", weave_tokens=512), "residual": "apart"}, "is served otherwise"),
        ({"engine": engine_named("vllm", weave_tokens=512), "model": "deepseek-v2-lite"}, "is served otherwise"),
        ({"residual": "stairs"}, "residual"),
    ],
)
def test_deployments_whose_sums_cannot_pass_beside_anything_are_refused(asked: dict[str, object], said: str) -> None:
    known = {"model": "llama-3.1-8b", "chip": "h100_sxm", "engine": engine_named("vllm"), "tensor": 2}
    with pytest.raises(InputError, match=said):
        placed(Deployment(**(known | asked)))  # type: ignore[arg-type]


def test_iterations_are_woven_from_so_many_tokens_on() -> None:
    def took(tokens: int, weave: int, tensor: int = 2) -> float:
        at = placed(Deployment("llama-3.1-8b", "h100_sxm", engine_named("vllm", weave_tokens=weave), tensor=tensor))
        return at.timed(Shape(prompts=((1, tokens, tokens),), finished=1))[0]

    assert took(1024, 1025) == took(1024, 0) != took(1024, 1024)
    assert took(8192, 1024) < took(8192, 0)
    assert took(8192, 1024, tensor=1) == took(8192, 0, tensor=1)


def test_a_woven_iteration_spends_what_its_kernels_do() -> None:
    def joules(weave: int) -> float:
        at = placed(Deployment("llama-3.1-8b", "h100_sxm", engine_named("vllm", weave_tokens=weave), tensor=2))
        return at.timed(Shape(decodes=64, keys=512, prompts=((1, 4000, 4000),), finished=1))[1]

    assert joules(1024) == pytest.approx(joules(0), rel=0.05)  # weights are read twice
    assert not np.isclose(joules(1024), joules(0), rtol=1e-6)
