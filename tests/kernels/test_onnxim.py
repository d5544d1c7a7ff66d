"""The kernel of ONNXim's accounting equals a naive simulation of cores, network and memory, tick by tick."""

from __future__ import annotations

import pytest
from depth import examples
from entry import entry
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_onnxim import BankedChannel, Product, decoded
from naive_onnxim import Machine as NaiveMachine

from archsim.components.compute.gemm_cases import answer as cases
from archsim.components.compute.onnxim import channels as banks
from archsim.components.compute.onnxim.accounting import answer
from archsim.components.compute.onnxim.channels import QUEUE, Channels, channels, controller
from archsim.components.compute.onnxim.kernel import Machine, run
from archsim.components.compute.onnxim.language_model import LAYERS, LayerShape
from archsim.components.compute.onnxim.layers import Operands, product, product_buffers, tiling
from archsim.components.compute.onnxim.npu import Npu
from archsim.components.compute.onnxim.program import Program, assemble, block_requests, touched_requests
from archsim.components.memory.command_level.preset import preset
from archsim.errors import InputError

EDGE = 4
has_room, push, step = entry(banks.has_room), entry(banks.push), entry(banks.step)


def machines() -> st.SearchStrategy[Machine]:
    return st.builds(
        Machine,
        edge=st.just(EDGE),
        core_ps=st.sampled_from([1000, 1066]),
        dram_ps=st.sampled_from([400, 833, 1000, 2500]),
        network_ps=st.sampled_from([500, 1000, 1500]),
        dram_cycles=st.integers(1, 12),
        network_cycles=st.integers(1, 5),
        ports=st.integers(1, 4),
        channels=st.sampled_from([1, 2, 3, 16, 32]),
    )


@st.composite
def products(draw: st.DrawFn) -> Product:
    size, tile = st.integers(1, 30), st.integers(1, 4).map(lambda blocks: EDGE * blocks)
    operands = ["left", "weight", "out", *(["bias"] if draw(st.booleans()) else [])]
    return Product(
        sizes=(draw(size), draw(size), draw(size)),
        tile=(draw(tile), draw(tile), draw(tile)),
        bases={operand: 256 * draw(st.integers(0, 2000)) for operand in operands},
        element_bytes=draw(st.sampled_from([1, 2])),
        request_bytes=draw(st.sampled_from([2, 8, 32, 256])),
    )


def simulated(
    program: Program, machine: Machine, banked: Channels | None = None
) -> tuple[int, int, int, list[int], list[int]]:
    total, reads, writes, begun, done = run(program, machine, banked)
    return total, reads, writes, begun.tolist(), done.tolist()


@settings(deadline=None, max_examples=examples(150))
@given(products(), machines(), st.integers(1, 4))
def test_a_product_equals_the_naive_machine(case: Product, machine: Machine, cores: int) -> None:
    (m, k, n), bases = case.sizes, case.bases
    npu = Npu(edge=EDGE, cores=cores, element_bytes=case.element_bytes, request_bytes=case.request_bytes)
    at = Operands(bases["left"], bases["weight"], bases.get("bias"), bases["out"])
    program = assemble([product(m, k, n, npu, at, case.tile)], cores, *product_buffers(m, n, npu, case.tile))
    assert simulated(program, machine) == NaiveMachine(machine, [case.queues(cores, EDGE)]).run()


@pytest.mark.slow  # most of it is the compiler's
@settings(deadline=None, max_examples=examples(25))
@given(
    products(),
    machines(),
    st.integers(1, 2),
    st.sampled_from(["onnxim_hbm2_8gb_2400", "onnxim_ddr4_16gb_x4_1600j"]),
    st.integers(900, 2000),
)
def test_a_product_equals_the_naive_machine_on_banked_channels(
    case: Product, machine: Machine, cores: int, device: str, interval: int
) -> None:
    """Few channels, few rows, and refreshes so frequent that a short run meets them."""
    (m, k, n), bases = case.sizes, case.bases
    npu = Npu(edge=EDGE, cores=cores, element_bytes=case.element_bytes, request_bytes=case.request_bytes)
    at = Operands(bases["left"], bases["weight"], bases.get("bias"), bases["out"])
    program = assemble([product(m, k, n, npu, at, case.tile)], cores, *product_buffers(m, n, npu, case.tile))
    shipped = preset(device)
    chosen = shipped.model_copy(update={"timing": shipped.timing | {"nREFI": interval}})
    banked = channels(machine.channels, len(program.requests), case.request_bytes, chosen)
    figures = controller(chosen)
    naive = [BankedChannel(chosen, figures, machine.channels, case.request_bytes) for _ in range(machine.channels)]
    expected = NaiveMachine(machine, [case.queues(cores, EDGE)], naive).run()
    assert simulated(program, machine, banked) == expected


@pytest.mark.parametrize("device", ["onnxim_hbm2_8gb_2400", "onnxim_ddr4_16gb_x4_1600j"])
def test_a_queue_before_a_controller_takes_256_packets(device: str) -> None:
    banked = channels(1, 300, 64, preset(device))
    for packet in range(QUEUE):
        assert has_room(banked, 0), packet
        push(banked, 0, packet, packet, False, 0)
    assert QUEUE == 256
    assert not has_room(banked, 0)
    step(banked, 0, 0)  # the controller takes one
    assert has_room(banked, 0)
    push(banked, 0, QUEUE, QUEUE, False, 1)
    assert not has_room(banked, 0)


@pytest.mark.slow
@pytest.mark.parametrize("device", ["onnxim_hbm2_8gb_2400", "onnxim_ddr4_16gb_x4_1600j"])
@pytest.mark.parametrize("queue", [1, 24])
def test_a_full_queue_holds_the_network_back_as_the_naive_machine_does(device: str, queue: int) -> None:
    """Queues shorter than the real one, which the naive machine takes minutes to fill."""
    machine = Machine(
        edge=EDGE, core_ps=1000, dram_ps=2500, network_ps=500, dram_cycles=1, network_cycles=1, ports=4, channels=1
    )
    case = Product(
        sizes=(10, 10, 10),
        tile=(12, 12, 12),
        bases={"left": 0, "weight": 2560, "out": 5120},
        element_bytes=2,
        request_bytes=2,
    )
    npu = Npu(edge=EDGE, cores=4, element_bytes=2, request_bytes=2)
    program = assemble(
        [product(10, 10, 10, npu, Operands(0, 2560, None, 5120), case.tile)],
        4,
        *product_buffers(10, 10, npu, case.tile),
    )
    chosen = preset(device)
    naive = BankedChannel(chosen, controller(chosen), 1, 2, queue)
    answers = simulated(program, machine, channels(1, len(program.requests), 2, chosen, queue))
    assert answers == NaiveMachine(machine, [case.queues(4, EDGE)], [naive]).run()
    assert naive.fullest == queue


SMALL = {"edge": EDGE, "scratchpad_kib": 8, "accumulator_kib": 2, "vector_bits": 256}


@settings(deadline=None, max_examples=examples(40))
@given(
    heads=st.sampled_from([(1, 1), (2, 2), (4, 2), (4, 1)]),
    width=st.sampled_from([4, 6, 8]),
    inner=st.integers(1, 24),
    tokens=st.integers(1, 12),
    cached=st.integers(0, 40),
    gated=st.booleans(),
    npu=st.builds(
        lambda cores, element, request: Npu(cores=cores, element_bytes=element, request_bytes=request, **SMALL),
        st.integers(1, 4),
        st.sampled_from([1, 2]),
        st.sampled_from([8, 32]),
    ),
    machine=machines(),
)
def test_a_layer_of_a_language_model_equals_the_naive_machine(
    heads: tuple[int, int], width: int, inner: int, tokens: int, cached: int, gated: bool, npu: Npu, machine: Machine
) -> None:
    shape = LayerShape(heads[0] * width, *heads, inner, 10, 64, gated)
    program = shape.program(tokens, cached, npu)
    naive = NaiveMachine(machine, decoded(program)).run()
    assert simulated(program, machine) == naive
    assert len(naive[4]) == len(LAYERS)


@given(
    st.integers(0, 100).map(lambda base: 256 * base),
    st.integers(0, 40),
    st.integers(1, 9),
    st.integers(0, 40),
    st.integers(1, 40),
    st.integers(0, 9),
    st.sampled_from([1, 2, 4]),
    st.sampled_from([4, 8, 64]),
)
def test_requests_of_a_block(
    base: int, row: int, rows: int, column: int, columns: int, spare: int, element: int, request: int
) -> None:
    block = range(row, row + rows), range(column, column + columns)
    width = column + columns + spare

    def places(step: int) -> list[int]:
        """Requests of every ``step``-th element of each row."""
        found = {(base + (r * width + c) * element) // request for r in block[0] for c in block[1][::step]}
        return sorted(found)

    assert touched_requests(base, *block, width, element, request).tolist() == places(1)
    assert block_requests(base, *block, width, element, request).tolist() == places(request // element)


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


BANKED = {
    "M": 128,
    "K": 128,
    "N": 128,
    "rows": 128,
    "cols": 128,
    "dataflow": "ws",
    "dram_freq": 1200,
    "dram_req_size": 32,
    "dram_type": "ramulator2",
    "dram_config_path": "ramulator2_configs/HBM2.yaml",
}


@pytest.mark.slow
def test_cases_name_their_memory() -> None:
    (answered,) = cases([BANKED], accounting="onnxim")
    assert (answered["total_cycles"], answered["layer_cycles"]) == (907, 810)  # ONNXim a1e8629


def test_memories_that_nobody_knows_are_refused() -> None:
    for wrong, message in (
        ({"dram_type": "ramulator1"}, "expected simple or ramulator2"),
        ({"dram_config_path": "ramulator2_configs/HBM3.yaml"}, r"brings HBM2\.yaml and DDR4\.yaml"),
    ):
        with pytest.raises(InputError, match=message):
            cases([BANKED | wrong], accounting="onnxim")
