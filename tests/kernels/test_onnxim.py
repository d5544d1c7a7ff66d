"""The kernel of ONNXim's accounting equals a naive simulation of cores, network and memory, tick by tick."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_onnxim import Machine

from archsim.components.compute.onnxim.accounting import Npu, answer, tiling
from archsim.components.compute.onnxim.kernel import Case, cycles

EDGE = 4


@st.composite
def cases(draw: st.DrawFn) -> Case:
    size, tile = st.integers(1, 30), st.integers(1, 4).map(lambda blocks: EDGE * blocks)
    element = draw(st.sampled_from([1, 2]))
    address = st.integers(0, 2000).map(lambda at: 256 * at)
    return Case(
        m=draw(size),
        k=draw(size),
        n=draw(size),
        tile_m=draw(tile),
        tile_k=draw(tile),
        tile_n=draw(tile),
        edge=EDGE,
        cores=draw(st.integers(1, 4)),
        bias=draw(st.integers(0, 1)),
        element_bytes=element,
        request_bytes=draw(st.sampled_from([2, 8, 32, 256])),
        core_ps=draw(st.sampled_from([1000, 1066])),
        dram_ps=draw(st.sampled_from([400, 833, 1000, 2500])),
        network_ps=draw(st.sampled_from([500, 1000, 1500])),
        dram_cycles=draw(st.integers(1, 12)),
        network_cycles=draw(st.integers(1, 5)),
        ports=draw(st.integers(1, 4)),
        channels=draw(st.sampled_from([1, 2, 3, 16, 32])),
        input_address=draw(address),
        weight_address=draw(address),
        bias_address=draw(address),
        output_address=draw(address),
    )


@settings(deadline=None, max_examples=150)
@given(cases())
def test_kernel_equals_the_naive_machine(case: Case) -> None:
    assert tuple(cycles(case)) == Machine(case).run()


@pytest.mark.parametrize(
    ("npu", "sizes", "tiles"),
    [
        (Npu(), (256, 256, 256), (256, 256, 256)),
        (Npu(cores=4), (128, 4096, 1024), (128, 4096, 256)),
        (Npu(edge=32, scratchpad_kib=512, accumulator_kib=128, element_bytes=1), (96, 200, 72), (96, 224, 96)),
        (Npu(edge=8, scratchpad_kib=64, accumulator_kib=16, element_bytes=1), (512, 512, 512), (40, 256, 40)),
    ],
)
def test_tiles(npu: Npu, sizes: tuple[int, int, int], tiles: tuple[int, int, int]) -> None:
    assert tiling(*sizes, npu) == tiles


@given(st.integers(1, 64), st.integers(1, 512), st.integers(1, 512), st.sampled_from([1, 2, 4]))
def test_a_tile_is_whole_blocks(m: int, k: int, n: int, cores: int) -> None:
    npu = Npu(edge=8, scratchpad_kib=64, accumulator_kib=16, element_bytes=1, cores=cores)
    assert all(tile > 0 and tile % 8 == 0 for tile in tiling(m, k, n, npu))


def test_requests_of_a_product_that_fits() -> None:
    # Rows of 256 bytes in requests of 256: one each for 128 inputs, weights and results, and one for the biases.
    answers = answer(128, 128, 128, Npu(), bias=True)
    assert (answers.dram_read_reqs, answers.dram_write_reqs) == (257, 128)
    assert answers.total_cycles == 697
