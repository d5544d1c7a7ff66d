"""What of a step of training lives off the GPU."""

from __future__ import annotations

from typing import Any

import pytest

from archsim.alone.sheet import ask
from archsim.alone.train import QUESTION
from archsim.config import load_spec
from archsim.errors import InputError
from archsim.training.cases import setup_of
from archsim.training.held import held, parameters_of, split
from archsim.training.offload import Offload, OffloadSpec
from archsim.training.pipeline import in_flight
from archsim.training.setup import dealt

ROW = {"model": "gpt3-13b", "device": "rtx4090", "gpus": "1", "global_batch": "32", "micro_batch": "32", "seq": "1024"}
ROW |= {"precision": "fp16", "framework": "megatron_bridge", "recompute": "full"}
FUYOU = load_spec("fuyou_rtx4090", OffloadSpec, category="offloads")


def spec(**changes: Any) -> OffloadSpec:
    """Round rates: 10 GB/s to the host, 100 GB/s of its memory, drives that read 20 and write 5 GB/s."""
    rates = {"link": 10**10, "memory_bandwidth": 10**11, "drives_read": 2 * 10**10, "drives_written": 5 * 10**9}
    return FUYOU.model_copy(update=rates | {"optimizer": "host", "update": "after"} | changes)


def test_copies_take_the_slower_of_link_and_drives() -> None:
    alone, four = Offload(spec(), 1), Offload(spec(), 4)
    assert alone.copied_s("gpu", 1e9, 1e9) == 0
    assert alone.copied_s("host", 1e9, 2e9) == pytest.approx(0.2)  # both ways at once
    assert alone.copied_s("drives", 1e9, 0) == pytest.approx(0.1)
    assert alone.copied_s("drives", 0, 1e9) == pytest.approx(0.2)
    assert four.copied_s("drives", 1e9, 0) == pytest.approx(0.2)  # those beside it read too


def test_updates_run_at_the_rate_of_where_the_state_lives() -> None:
    size = 10**9
    host = Offload(spec(), 2).update(size, 20.0, 12.0, 2.0)
    assert host == pytest.approx((0.2, 0.4))
    drives = Offload(spec(optimizer="drives"), 2).update(size, 20.0, 12.0, 2.0)
    assert drives == pytest.approx((0.2, 2 * 12 / 5))
    both = Offload(spec(interleaved=True), 2).update(size, 20.0, 12.0, 2.0)
    assert both.update_s == pytest.approx(1 / (1 / 0.4 + 1 / 1.4))  # the GPU's share comes and goes at the link's rate
    link = Offload(spec(memory_bandwidth=10**15), 1).update(size, 20.0, 12.0, 2.0)
    assert link.update_s == pytest.approx(0.2)  # weights come back


def test_what_is_away_and_what_stays_are_all_of_it() -> None:
    setup = setup_of(ROW | {"off_gpu": "fuyou_rtx4090"})
    parts = dealt(setup.model, setup.cut)[0]
    whole = held(setup, parts, in_flight("1f1b", 1, 1, 1)[0])
    stays, away = split(setup, whole)
    assert (stays.weights + away.weights, away.optimizer) == (whole.weights, whole.optimizer)
    assert stays.activations + away.activations == whole.activations
    assert stays.optimizer == 0
    assert away.optimizer == 12 * sum(parameters_of(setup, parts))
    assert split(setup_of(ROW), whole) == (whole, type(whole)(0, 0, 0, 0))


def test_a_step_with_states_away_fits_and_is_slower_the_slower_the_ways() -> None:
    near = ask(QUESTION, ROW)
    beside, after = (ask(QUESTION, ROW | {"off_gpu": f"{name}_rtx4090"}) for name in ("fuyou", "zero_infinity"))
    assert near["fits"].startswith("no")
    assert beside["fits"] == after["fits"] == "yes"
    assert near["products_ms"] == beside["products_ms"] == after["products_ms"]
    assert (
        beside["iteration_ms"] < near["iteration_ms"] < after["iteration_ms"]
    )  # an update beside costs the GPU nothing
    assert after["optimizer_ms"] > 0.9 * 12 * 12.8e9 / 40.8e9 * 1e3  # drives write the optimizer's state
    assert after["drives_bytes"] > 12 * 12.8e9
    assert "host_bytes" not in near


def test_too_small_hosts_and_unknown_names_are_told(tmp_path: Any) -> None:
    with pytest.raises(InputError, match="did you mean 'fuyou_rtx4090'"):
        ask(QUESTION, ROW | {"off_gpu": "fuyou_rtx490"})
    file = tmp_path / "small.yaml"
    file.write_text(
        "name: small\nsource: made up\nlink: 10 GB/s\nmemory: 8 GB\nmemory_bandwidth: 100 GB/s\noptimizer: host\n"
    )
    assert "GB over on the host" in ask(QUESTION, ROW | {"off_gpu": str(file)})["fits"]
    without = tmp_path / "without.yaml"
    without.write_text(file.read_text().replace("optimizer: host", "optimizer: drives"))
    with pytest.raises(InputError, match="something lives on drives, and 'drives' is missing"):
        ask(QUESTION, ROW | {"off_gpu": str(without)})
