"""What stays near: what moves is what policies fetch and write back, the room is kept, Belady is the bound."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archsim.errors import InputError
from archsim.result import Result
from archsim.runs import run
from archsim.workloads.residency import Outcome, Use, policy_of, replay

POLICIES = ("streaming", "pinned", "lru", "lfu", "belady")

traces = st.lists(st.integers(0, 7), max_size=60)


def equal(trace: Sequence[int], size: int = 10, writes: bool = False) -> list[Use]:
    return [Use(thing, size, writes) for thing in trace]


def outcomes(policy: str, uses: Sequence[Use], room: int, together: Sequence[int] = ()) -> list[Outcome]:
    return replay(uses, room, policy_of(policy, uses), together=together)


def least_recent_by_hand(trace: Sequence[int], slots: int) -> list[bool]:
    """Whether each use fetches."""
    held: list[int] = []
    fetched = []
    for thing in trace:
        fetched.append(thing not in held)
        if thing in held:
            held.remove(thing)
        elif len(held) == slots:
            held.pop(0)
        held.append(thing)
    return fetched


@given(traces, st.integers(1, 8))
def test_least_recently_used_by_hand(trace: list[int], slots: int) -> None:
    done = outcomes("lru", equal(trace), 10 * slots)
    assert [outcome.fetched > 0 for outcome in done] == least_recent_by_hand(trace, slots)


@given(traces, st.integers(1, 8))
def test_of_things_of_one_size_none_moves_less_than_belady(trace: list[int], slots: int) -> None:
    moved = {p: sum(o.fetched for o in outcomes(p, equal(trace), 10 * slots)) for p in POLICIES}
    assert moved["belady"] == min(moved.values())
    assert moved["streaming"] == 10 * len(trace)
    assert moved["belady"] >= 10 * len(set(trace))
    if slots >= len(set(trace)):
        assert moved["lru"] == moved["lfu"] == moved["pinned"] == 10 * len(set(trace))


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=50), st.sampled_from(POLICIES))
def test_the_room_is_kept_and_what_was_written_goes_back(trace: list[tuple[int, bool]], policy: str) -> None:
    sizes = (3, 5, 8, 13, 2, 7)
    uses = [Use(thing, sizes[thing], writes) for thing, writes in trace]
    held: list[tuple[int, bool]] = []  # each stay, and whether something was written during it
    for use, done in zip(uses, outcomes(policy, uses, 21), strict=True):
        written = 0
        for thing in done.left:
            at = next(i for i, (one, _) in enumerate(held) if one == thing)
            written += sizes[thing] if held.pop(at)[1] else 0
        assert done.written == written
        at = next((i for i, (one, _) in enumerate(held) if one == use.thing), None)
        if done.fetched:
            assert policy == "streaming" or at is None
            held.append((use.thing, use.writes))
        else:
            assert at is not None
            held[at] = use.thing, held[at][1] or use.writes
        assert sum(sizes[one] for one, _ in held) <= 21


def test_what_is_used_together_is_there_together() -> None:
    uses = equal([0, 1, 2, 0, 3, 1])
    for policy in POLICIES:
        done = outcomes(policy, uses, 20, together=(0, 0, 1, 1, 2, 2))
        for i in (1, 3, 5):
            assert uses[i - 1].thing not in done[i].left
    with pytest.raises(InputError, match="0, 1: 20 B used at a time do not fit the 19 B"):
        outcomes("lru", uses, 19, together=(0, 0, 1, 1, 2, 2))


# -- on a machine

LAYERS = 6
CHIP: dict[str, Any] = {
    "name": "small",
    "technology": "n7",
    "clock": "1.5 GHz",
    "engines": {
        "mxu": {"kind": "systolic_array", "rows": 128, "columns": 128},
        "vpu": {"kind": "vector_unit", "lanes": 4096},
    },
    "memories": {
        "buffer": {"kind": "sram", "capacity": "64 MiB", "bandwidth": "10 TB/s"},
        "hbm": {"kind": "dram", "standard": "HBM2", "capacity": "80 GB", "bandwidth": "2 TB/s"},
        "host": {"kind": "dram", "standard": "DDR4", "capacity": "256 GB", "bandwidth": "76.8 GB/s", "outside": True},
    },
    "placement": {"weight": "hbm", "kv": "hbm", "activation": "hbm"},
    "dma": {"kind": "dma", "link": {"extends": "links/pcie5_x16"}, "setup": "10 us"},
}
"""A chip with a host, quicker to read than a GPU."""


def chip(**changes: Any) -> dict[str, Any]:
    return {**CHIP, **{key: {**CHIP[key], **value} if key in CHIP else value for key, value in changes.items()}}


@functools.cache
def offloaded(
    policy: str, slots: int, things: str = "layers", predicted: float = 0.0, brute_force: bool = False, **more: Any
) -> Result:
    """Six layers of OLMoE (or GPT-2 where layers are fetched); of what is fetched ``slots`` have room."""
    experts = things == "experts"
    share = 0.8 if experts else 0.55
    size = 3 * 2 * 2048 * 1024 if experts else 14_175_744
    machine = chip(
        placement={"weight": {"hbm": round(1 - share, 6), "host": share}},
        residency={"policy": policy, "room": f"{slots * size} B", "things": things, "predicted": predicted},
    )
    workload = {
        "kind": "transformer",
        "model": "olmoe-1b-7b" if experts else "gpt2",
        "dtype": "bf16",
        "input": 4,
        "output": 4,
    }
    fixed: dict[str, Any] = {"workload.model.layers": LAYERS, "workload.model.vocab": 1000}
    named = {name.replace("__", "."): value for name, value in more.items()}
    return run({"name": "n", "chip": machine, "workload": workload}, fixed | named, brute_force=brute_force)


def moved(result: Result) -> int:
    """Bytes that copies brought."""
    return sum(count for (path, name), count in result.ledger.totals().items() if name == "copy_byte")


@pytest.mark.parametrize("policy", ["streaming", "lru", "pinned"])
def test_bytes_moved_are_those_fetched_and_the_room_is_never_exceeded(policy: str) -> None:
    result = offloaded(policy, 2)
    far = [(s.bytes, s.ends) for s in result.plan.holdings[0].stays]
    assert moved(result) == sum(sum(sizes) for sizes, _ in far)
    over_time = result.memory_over_time()["chip.hbm"]["bytes"]
    assert max(over_time["fetched weights"]) <= 2 * far[0][0][0]
    assert moved(offloaded("belady", 2)) <= moved(result)


@pytest.mark.parametrize("policy", ["lru", "belady"])
def test_over_a_link_that_takes_no_time_no_policy_costs_any(policy: str) -> None:
    fast = {
        "chip__dma__link__bandwidth": "100000 TB/s",
        "chip__dma__link__latency": "0 s",
        "chip__dma__setup": "0 s",
        "chip__memories__host__bandwidth": "100000 TB/s",
        "chip__memories__host__latency": "0 s",
        "chip__memories__hbm__bandwidth": "100000 TB/s",
        "chip__memories__hbm__latency": "0 s",
    }
    assert offloaded(policy, 2, **fast).time_s == pytest.approx(offloaded("streaming", 6, **fast).time_s, rel=1e-5)


def test_with_room_for_all_each_is_fetched_once() -> None:
    result = offloaded("lru", LAYERS)
    assert moved(result) == sum(result.plan.holdings[0].tier_bytes.values())


@pytest.mark.parametrize(("policy", "things", "predicted"), [("lru", "experts", 0.5), ("belady", "layers", 0.0)])
def test_the_world_equals_the_judge(policy: str, things: str, predicted: float) -> None:
    slots = 40 if things == "experts" else 2
    played, judged = (offloaded(policy, slots, things, predicted, brute_force=b) for b in (False, True))
    assert played.ticks == judged.ticks
    assert played.ledger.totals() == judged.ledger.totals()
    assert played.memory_over_time() == judged.memory_over_time()


def test_experts_that_are_predicted_come_earlier_and_wrong_guesses_move_more() -> None:
    never, half, always = (offloaded("lru", 80, "experts", p) for p in (0.0, 0.5, 1.0))
    for result in (half, offloaded("lru", 80, "experts", 0.05)):
        over_time = result.memory_over_time()["chip.hbm"]["bytes"]
        assert all(min(values) >= 0 for values in over_time.values())
        assert any(values[-1] for values in over_time.values())  # what was used stays, wrong guesses do not
        assert sum(values[-1] for kind, values in over_time.items() if kind.startswith("fetched")) <= 80 * 12_582_912
    assert always.time_s < never.time_s
    assert moved(always) == moved(never) < moved(half)


def test_experts_are_fetched_as_wide_as_they_are_stored() -> None:
    def fetched(widths: Sequence[tuple[int, float]] = (), nested: bool = False, brute_force: bool = False) -> Result:
        stored = {
            "chip__residency__widths": [{"bits": bits, "share": share} for bits, share in widths],
            "chip__residency__nested": nested,
        }
        return offloaded.__wrapped__("lru", 90, "experts", brute_force=brute_force, **stored)

    def far(result: Result) -> int:
        return result.plan.holdings[0].tier_bytes["host"]

    plain, half = fetched(), fetched([(8, 1.0)])
    assert fetched([(16, 1.0)]).ticks == plain.ticks
    assert fetched([(8, 1.0)], nested=True).ticks == half.ticks
    assert 2 * far(half) == far(plain)
    assert 2 * moved(half) < moved(plain)  # twice as many find room
    mixed, nested = fetched([(4, 0.5), (8, 0.5)]), fetched([(4, 0.5), (8, 0.5)], nested=True)
    assert (4 * far(mixed), far(nested)) == (3 * far(half), far(half))
    assert moved(nested) < moved(half)
    assert fetched([(4, 0.5), (8, 0.5)], nested=True, brute_force=True).ticks == nested.ticks


def test_wrong_guesses_have_room_in_a_memory_that_is_full() -> None:
    small = {"chip__residency__room": None, "chip__memories__hbm__capacity": "2 GB", "chip__prefetch": 0}
    full, guessed = (offloaded.__wrapped__("lru", 0, "experts", predicted, **small) for predicted in (0.0, 0.5))
    peaks = [
        next(row["peak_bytes"] for row in result.memory_rows() if row["memory"] == "chip.hbm")
        for result in (full, guessed)
    ]
    assert 1.8e9 < peaks[0] <= 2e9
    assert peaks[1] <= 2e9
    assert "fetched weights ahead" in guessed.memory_over_time()["chip.hbm"]["bytes"]


def test_the_first_half_of_a_layer_waits_for_none_of_its_experts() -> None:
    result = offloaded("lru", 80, "experts")
    fetched, resident = (
        sorted((start, end) for t in result.world.tasks if t.task.name == name for _, start, end in t.each())
        for name in ("fetched", "resident")
    )
    copies = sorted((start, end) for t in result.world.tasks if t.task.name == "copy" for _, start, end in t.each())
    for start, end in copies:
        assert any(e == start for _, e in resident) or any(e == start for _, e in copies)  # right after a router
        assert any(s >= end for s, _ in fetched)


def test_a_block_that_a_rule_names_is_fetched_like_a_layer() -> None:
    result = offloaded.__wrapped__("streaming", 3, chip__residency__rules={"head": "host"})
    head = 2 * (1000 * 768 + 2 * 768)  # with the norm before it
    assert f"{LAYERS // 2 + 1} of {LAYERS + 1} layers" in " ".join(result.plan.notes)
    assert head in {size for stay in result.plan.holdings[0].stays for size in stay.bytes}


def test_rules_go_before_shares_and_bad_ones_are_told() -> None:
    def far(rules: dict[str, str]) -> int:
        result = offloaded.__wrapped__("streaming", 6, chip__residency__rules=rules, chip__placement__weight=SOME)
        return sum(result.plan.holdings[0].tier_bytes.values())

    layer = 14_175_744
    assert far({}) == 2 * layer
    assert far({"layer.[01]": "host"}) == 2 * layer  # they are its share
    assert far({"layer.[01]": "hbm", "layer.*": "host"}) == 4 * layer
    with pytest.raises(InputError, match="names the memory 'hots': did you mean 'host'"):
        far({"layer.0": "hots"})
    with pytest.raises(InputError, match=r"its layers hold 0 of its weights, and 0\.3 are to live in host"):
        far({"*": "hbm"})
    with pytest.raises(InputError, match="no policy is called 'lrru': did you mean 'lru'"):
        offloaded("lrru", 2)
    with pytest.raises(InputError, match="used at a time do not fit"):
        offloaded("lru", 0)


SOME = {"hbm": 0.7, "host": 0.3}


def copied(memories: dict[str, Any], **changes: Any) -> Result:
    """A gigabyte from drives."""
    machine = chip(memories=memories) | changes
    task = {"name": "copy", "copy": {"bytes": "1 GB", "source": "nvme", "target": "hbm"}}
    return run({"name": "n", "chip": machine, "workload": {"kind": "tasks", "tasks": [task]}})


NVME = {
    "kind": "storage",
    "capacity": "2 TB",
    "read": "7 GB/s",
    "write": "5 GB/s",
    "latency": "80 us",
    "energy": "10 pJ/bit",
    "source": "a test",
}


def test_a_copy_from_drives_crosses_the_hosts_memory_as_fast_as_the_slowest() -> None:
    link = {"kind": "dma", "link": {"extends": "links/pcie4_x16"}}
    direct = copied({"nvme": NVME})
    staged = copied(
        {"nvme": NVME},
        routes={
            "drives": {"between": ["nvme", "host"], "engine": link},
            "gpu": {"between": ["host", "hbm"], "engine": link},
        },
    )
    assert direct.time_s == pytest.approx(staged.time_s, rel=1e-3) == pytest.approx(1 / 7, rel=2e-3)
    counts = staged.ledger.totals()
    assert counts["chip.host", "write_byte"] == counts["chip.host", "read_byte"] == 10**9
    assert counts["chip.drives", "copy_byte"] == counts["chip.gpu", "copy_byte"] == 10**9
    few = copied({"nvme": NVME | {"outstanding": 2, "request": "128 KiB"}})
    assert few.time_s == pytest.approx(1e9 * 80e-6 / (2 * 131072), rel=2e-3)  # Little's law
    with pytest.raises(InputError, match=r"routes\.x names the memory 'hosst'"):
        copied({"nvme": NVME}, routes={"x": {"between": ["nvme", "hosst"], "engine": link}})


def test_descriptors_and_copies_that_are_not_pinned_take_longer() -> None:
    def seconds(**dma: Any) -> float:
        drives = NVME | {"read": "100 TB/s", "latency": "0 s"}
        return copied({"nvme": drives}, dma={"kind": "dma", "bandwidth": "20 GB/s"} | dma).time_s

    plain = seconds()
    assert seconds(chunk="1 MB", descriptor="2 us") == pytest.approx(plain + 1000 * 2e-6, rel=1e-6)
    assert seconds(chunk="1 MB", staging="10 GB/s") == pytest.approx(1 / 10 + 1 / 20e3, rel=1e-3)
    assert seconds(chunk="1 MB", staging="40 GB/s") == pytest.approx(plain + 1 / 40e3, rel=1e-3)
    with pytest.raises(InputError, match="'staging' goes chunk by chunk"):
        seconds(staging="10 GB/s")


@functools.cache
def composed(ahead: int = 0, policy: str = "lru", brute_force: bool = False) -> Result:
    """Six small models behind a router, three of which the GPU holds."""
    workload = {
        "kind": "composition_of_experts",
        "expert": "gpt2",
        "experts": 6,
        "resident_experts": 3,
        "batch": 4,
        "batches": 3,
        "input": 16,
        "output": 3,
        "source_tier": "host",
        "policy": policy,
        "ahead": ahead,
    }
    fixed = {"workload.expert.layers": 2, "workload.expert.vocab": 1000}
    return run({"name": "n", "chip": CHIP, "workload": workload}, fixed, brute_force=brute_force)


@pytest.mark.parametrize("ahead", [0, 2])
def test_a_composition_of_experts_copies_what_its_policy_says(ahead: int) -> None:
    result = composed(ahead)
    (size,) = {t.task.what.blocks[0].ops[0].bytes for t in result.world.tasks if t.task.name == "switch"}
    copies = sum(len(list(t.each())) for t in result.world.tasks if t.task.name == "switch")
    assert moved(result) == copies * size
    assert moved(composed(ahead, "belady")) <= moved(result)
    judged = composed(ahead, brute_force=True)
    assert judged.ticks == result.ticks
    assert composed(2).time_s < composed(0).time_s


@pytest.mark.parametrize("policy", ["streaming", "lru"])
def test_what_is_written_goes_back_before_its_room_is_free(policy: str) -> None:
    written = {"chip__residency__written": True}
    result, judged = (offloaded(policy, 2, brute_force=b, **written) for b in (False, True))
    assert (result.ticks, result.memory_over_time()) == (judged.ticks, judged.memory_over_time())
    tasks = {
        name: sum(len(list(t.each())) for t in result.world.tasks if t.task.name == name) for name in ("copy", "back")
    }
    layer = result.plan.holdings[0].stays[0].bytes[0]
    assert moved(result) == layer * sum(tasks.values())
    assert tasks["back"] == tasks["copy"] - (0 if policy == "streaming" else 2)  # what is there at the end stays
    fetched = result.memory_over_time()["chip.hbm"]["bytes"]["fetched weights"]
    assert max(fetched) == 2 * layer
    assert result.time_s >= offloaded(policy, 2).time_s


def test_a_link_that_carries_both_ways_brings_while_it_takes_back() -> None:
    more = {"chip__prefetch": 2, "chip__residency__written": True, "chip__memories__host__bandwidth": "400 GB/s"}
    both, one = (offloaded("streaming", 3, chip__dma__link__duplex=duplex, **more) for duplex in ("full", "half"))
    assert both.time_s < 0.7 * one.time_s
    with pytest.raises(InputError, match="weights go back layer by layer"):
        offloaded("lru", 80, "experts", chip__residency__written=True)


@functools.cache
def beside(chunk: str = "", brute_force: bool = False, lanes: str = "bf16", converts: bool = False) -> Result:
    """Attention of GPT-2 on a processor beside the host's memory, where the cache lives; layers stream."""
    machine = chip(
        engines={
            "xeon": {"kind": "simd_cores", "cores": 4, "lanes": {lanes: 8}, "converts": converts, "clock": "2 GHz"}
        },
        beside={"xeon": "host"},
        placement={"weight": {"hbm": 0.45, "host": 0.55}, "kv": "host"},
        dma={"chunk": chunk} if chunk else {},
    )
    workload = {"kind": "transformer", "model": "gpt2", "dtype": "bf16", "batch": 8, "input": 32, "output": 4}
    fixed = {"workload.model.layers": LAYERS, "workload.model.vocab": 1000}
    return run({"name": "n", "chip": machine, "workload": workload}, fixed, brute_force=brute_force)


def test_who_stands_beside_a_memory_works_on_what_lives_there_and_nobody_else() -> None:
    result = beside()
    engines = {row["name"].rpartition(".")[2]: row["engine"] for row in result.op_rows}
    assert engines["attention"] == "chip.xeon"
    assert engines["qkv"] == engines["out"] == "chip.mxu"
    assert result.placement.contents["chip.host"]["kv"] > 0
    crossing = sum(n for (path, name), n in result.ledger.totals().items() if (path, name) == ("chip.dma", "copy_byte"))
    layers = sum(sum(stay.bytes) for stay in result.plan.holdings[0].stays)
    tokens = 8 * (32 + 3)
    assert crossing == layers + LAYERS * tokens * 768 * 2 * (2 + 2)  # queries and outputs, keys and values
    with pytest.raises(InputError, match="beside names the engine 'x'"):
        run({"name": "n", "chip": chip(beside={"x": "host"}), "workload": {}})


def test_a_cache_that_is_converted_first_is_written_and_read_once_more_in_the_wider_format() -> None:
    def moved_at_host(result: Result) -> int:
        return sum(row["traffic"].get("chip.host", 0) for row in result.op_rows if row["kind"] == "attention")

    plain, wider = (beside(lanes="fp32", converts=converts) for converts in (False, True))
    keys = 8 * (32 + 33 + 34 + 35)
    assert moved_at_host(wider) - moved_at_host(plain) == LAYERS * keys * 768 * 2 * 4 * 2
    assert beside(converts=True).ticks == beside().ticks  # computed as it is stored
    assert wider.time_s > plain.time_s


def test_small_copies_do_not_wait_for_large_ones_that_go_chunk_by_chunk() -> None:
    assert beside("64 kB").time_s < beside().time_s
    assert beside("64 kB").ticks == beside("64 kB", brute_force=True).ticks


def test_what_engines_read_outside_the_chip_crosses_the_link() -> None:
    """A cache in the host's memory that nobody stands beside: as slow as the slower of link and memory."""

    def seconds(kv: str, link: str = "63015 MB/s") -> float:
        machine = chip(placement={"kv": kv}, dma={"link": {"extends": "links/pcie5_x16", "bandwidth": link}})
        workload = {"kind": "transformer", "model": "gpt2", "dtype": "bf16", "batch": 64, "input": 900, "output": 1}
        changes = {"workload.model.layers": 1, "workload.model.vocab": 1000, "workload.phases": ["decode"]}
        return run({"name": "n", "chip": machine, "workload": workload}, changes).time_s

    cache = 64 * 901 * 2 * 768 * 2
    for link, rate in (("63015 MB/s", 57.6e9), ("20 GB/s", 18.28e9)):
        assert cache / rate * 0.999 <= seconds("host", link) <= cache / rate + seconds("hbm")


def drafted(link: str = "64 GB/s", brute_force: bool = False) -> Result:
    """A model whose layers come over a link, drafted for by one that stays near."""
    workload = {
        "kind": "speculative_decoding",
        "model": "gpt2-medium",
        "draft": "gpt2",
        "drafted": 2,
        "acceptance": 0.5,
        "input": 16,
        "output": 4,
    }
    machine = chip(
        placement={"weight": {"hbm": 0.5, "host": 0.5}},
        residency={"rules": {"draft.*": "hbm", "*": "host"}},
        dma={"kind": "dma", "bandwidth": link, "link": None},
    )
    small = {
        f"workload.{model}.{what}": n for model in ("model", "draft") for what, n in (("layers", 3), ("vocab", 999))
    }
    return run({"name": "n", "chip": machine, "workload": workload}, small, brute_force=brute_force)


def test_a_draft_stays_near_while_the_model_comes_for_each_round() -> None:
    result = drafted()
    notes = " ".join(result.plan.notes)
    assert "3 rounds of 2 guesses" in notes
    assert "3 of 6 layers" in notes
    assert len([t for t in result.world.tasks if t.task.name == "copy"]) == 3 * 3
    assert result.ticks == drafted(brute_force=True).ticks
    assert drafted("1 GB/s").time_s > 2 * result.time_s


def test_zeroth_order_tuning_moves_weights_four_times_and_stores_them_once() -> None:
    workload = {"kind": "zeroth_order_tuning", "model": "gpt2", "input": 32}
    small = {"workload.model.layers": 2, "workload.model.vocab": 999}
    result = run({"name": "n", "chip": CHIP, "workload": workload}, small)
    forward = {"kind": "transformer", "model": "gpt2", "dtype": "fp16", "batch": 2, "input": 32, "phases": ["prefill"]}
    plain = run({"name": "n", "chip": CHIP, "workload": forward}, small)
    assert result.placement.contents["chip.hbm"]["weight"] == plain.placement.contents["chip.hbm"]["weight"]
    moves = [row for row in result.op_rows if row["name"].rpartition(".")[2] in ("draw", "scale", "size", "add")]
    layer = 768 * (2304 + 768 + 2 * 3072)
    first = sum(row["flops"] for row in moves if "layer.0" in row["name"])
    assert 16 * layer <= first < 16.1 * layer  # four moves of four functions; biases and norms beside
    assert {row["name"] for row in plain.op_rows} <= {
        row["name"].replace("tuning", "prefill") for row in result.op_rows
    }


@pytest.mark.parametrize("kind", ["zeroth_order_tuning", "speculative_decoding"])
def test_what_gives_no_tokens_is_told(kind: str) -> None:
    more = {"draft": "gpt2", "acceptance": 0.5, "output": 2} if kind == "speculative_decoding" else {}
    for model, why in (("bert-base", "is an encoder"), ("t5-large", "looks at an encoder")):
        with pytest.raises(InputError, match=f"'{model}' {why}"):
            run({"name": "n", "chip": CHIP, "workload": {"kind": kind, "model": model, "input": 8, **more}})
