"""NCCL's protocols and DeepEP's exchanges: rules at their edges, limits, and what cannot be asked."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from archsim.components.network.expert_parallel import ExpertParallel, ExpertParallelSpec, places, token_bytes
from archsim.components.network.link import LinkSpec
from archsim.components.network.nccl import Nccl, NcclSpec, bus_bandwidth
from archsim.config import load_spec
from archsim.errors import InputError

SPEC = load_spec("nccl", NcclSpec, category="collectives")
MIB = 2**20


def nccl(gpu: str = "hopper", links: str = "nvlink4", switched: bool = True) -> Nccl:
    return Nccl(SPEC, gpu, load_spec(links, LinkSpec, category="links"), switched)  # type: ignore[arg-type]


def test_small_messages_go_by_ll_and_large_ones_through_the_switch() -> None:
    assert (nccl().time("all_reduce", 1024, 8).algorithm, nccl().time("all_reduce", 1024, 8).protocol) == ("ring", "ll")
    assert nccl().time("all_reduce", MIB, 8).protocol == "ll"
    assert nccl().time("all_reduce", 2 * MIB, 8).algorithm == "nvls"
    assert nccl(switched=False).time("all_reduce", 2**34, 8).protocol == "simple"
    assert nccl("ampere", "nvlink3").time("all_reduce", 2**34, 8).algorithm == "ring"
    assert nccl().time("all_reduce", 2**34, 2).algorithm == "ring"  # two ranks have nothing to sum in a switch
    assert nccl().time("all_gather", 2**34, 8).protocol == "simple"


def test_a_ring_takes_its_base_its_steps_and_its_bytes() -> None:
    empty = nccl().time("all_reduce", 0, 8).seconds
    assert empty == pytest.approx(6.6e-6 + 14 * 0.6e-6)
    assert nccl().time("all_reduce", 8000, 8).seconds - empty == pytest.approx(8000 * 14 / 8 / 141e9)
    big = nccl(switched=False).time("all_reduce", 2**34, 8)
    assert bus_bandwidth("all_reduce", 2**34, 8, big.seconds) == pytest.approx(18 * 20.6e9, rel=1e-3)


@pytest.mark.parametrize(("below", "chunk", "at"), [(2**30, 64, 128), (64 * MIB, 32, 64), (8 * MIB, 16, 32)])
def test_chunks_shrink_below_their_thresholds(below: int, chunk: int, at: int) -> None:
    """16 channels of 8 ranks: 64 loops of 128 KiB, 8 of 64 KiB, 2 of 32 KiB."""
    assert nccl().chunk(below - 1, 8) == chunk * 1024
    assert nccl().chunk(below, 8) == at * 1024


def test_what_nccl_is_not_asked() -> None:
    for name, ranks in (("all_reduce", 1), ("all_to_all", 8)):
        with pytest.raises(InputError):
            nccl().time(name, 64, ranks)


EXPERTS = load_spec("deepep", ExpertParallelSpec, category="collectives")


def test_tokens_and_places() -> None:
    assert token_bytes(7168, "dispatch") == 7168 + 224 + 16
    assert token_bytes(7168, "combine") == 14336
    assert places(1, 8) == 1
    assert places(8, 1) == pytest.approx(1)
    assert places(4, 10**6) == pytest.approx(4)


def test_many_tokens_are_limited_by_the_adapters_between_nodes_and_by_nvlink_inside() -> None:
    outside = ExpertParallel(EXPERTS, 4).low_latency("dispatch", 10**6, 7168, 8)
    assert outside == pytest.approx(10**6 * 8 * 7408 * 24 / 32 / 45.99e9, rel=1e-3)
    inside = ExpertParallel(EXPERTS, 1).low_latency("combine", 10**6, 7168, 8)
    assert inside == pytest.approx(10**6 * 8 * 14336 * 7 / 8 / 219.3e9, rel=1e-3)


def test_more_multiprocessors_help_until_the_links_are_full() -> None:
    times = [ExpertParallel(EXPERTS, 1).normal("dispatch", 16384, 7168, 8, n) for n in (4, 8, 12, 24, 64, 128)]
    assert times == sorted(times, reverse=True)
    assert times[0] == pytest.approx(2 * times[1], rel=0.02)
    assert times[-1] == times[-2]


def test_an_exchange_without_nodes_is_refused() -> None:
    with pytest.raises(InputError):
        ExpertParallel(EXPERTS, 0)
    with pytest.raises(ValidationError):
        ExpertParallelSpec.model_validate({"name": "x"})
