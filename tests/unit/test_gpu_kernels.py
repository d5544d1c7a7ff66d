"""Kernels of GPUs: one shape and many, alone and in a run, and where the rules bite."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archsim.cli import main
from archsim.components.compute.gpu_attention import AttentionShape, decode, prefill
from archsim.components.compute.gpu_chip import GpuChip
from archsim.components.compute.gpu_elementwise import elementwise
from archsim.components.compute.gpu_experts import (
    ExpertKernelsSpec,
    balanced,
    experts,
    grouped_gemm,
    load,
    load_of,
    power_law,
)
from archsim.components.compute.gpu_gemm import gemm
from archsim.components.compute.gpu_kernels import GpuKernelsSpec
from archsim.config import load_spec, shipped
from archsim.errors import InputError
from archsim.kernels import answer
from archsim.machine import ChipSpec, Machine, SystemSpec
from archsim.mapper import Mapper
from archsim.runs import run
from archsim.validation.chips.picture import picture
from archsim.workloads.op import GroupedMatMul, Role, Vector
from archsim.workloads.program import Program

KERNELS = load_spec("nvidia", GpuKernelsSpec, category="kernels")
RATES = {"bf16": 1024, "fp16": 1024, "int8": 2048}
CHIP = GpuChip(108, 1_410_000_000, RATES, 2.039e12, 40 * 2**20, "mma", "n7", 400.0)


def replace_spec(spec, **changes):
    """A spec with other values."""
    return type(spec).model_validate(spec.model_dump(exclude_none=True) | changes)


def seconds(m, k, n, chip=CHIP, dtype="bf16", **more):
    return float(gemm(chip, KERNELS.gemm, dtype, m, k, n, **more).seconds[0])


# --- GEMM


def test_many_shapes_are_those_one_by_one():
    rng = np.random.default_rng(5)
    m, k, n = rng.integers(1, 9000, (3, 200))
    together = gemm(CHIP, KERNELS.gemm, "bf16", m, k, n)
    for i in range(0, 200, 7):
        alone = gemm(CHIP, KERNELS.gemm, "bf16", int(m[i]), int(k[i]), int(n[i]))
        assert together.seconds[i] == alone.seconds[0]
        assert (together.tile[i], together.split[i]) == (alone.tile[0], alone.split[0])


@pytest.mark.parametrize("dtype", ["bf16", "int8"])
def test_no_kernel_beats_the_peak_or_the_memory(dtype):
    rng = np.random.default_rng(6)
    m, k, n = rng.integers(1, 20_000, (3, 500)).astype(float)
    best = gemm(CHIP, KERNELS.gemm, dtype, m, k, n)
    wide = 1 if dtype == "int8" else 2
    assert (2 * m * k * n / best.seconds <= 2 * 108 * RATES[dtype] * 1.41e9).all()
    assert ((wide * (m * k + k * n) + 2 * m * n) / best.seconds <= 2.039e12).all()
    assert (best.done.memory_bytes >= wide * (m * k + k * n) + 2 * m * n).all()


def test_a_deep_thin_product_is_split_and_a_large_one_is_not():
    assert gemm(CHIP, KERNELS.gemm, "bf16", 64, 32768, 128).split[0] > 1
    assert gemm(CHIP, KERNELS.gemm, "bf16", 8192, 8192, 8192).split[0] == 1


def test_a_wave_more_costs_whole_and_a_tile_within_a_wave_nothing():
    tile = 128
    full, over = 108 * tile, 108 * tile + 1
    thin = KERNELS.gemm.formats["bf16"].model_copy(update={"tiles": ((tile, tile),), "splits": (1,)})
    one = KERNELS.gemm.model_copy(update={"formats": {"bf16": thin}})
    free = GpuChip(108, 1_410_000_000, RATES, 1e18, 40 * 2**20, "mma", "n7", None)  # memory never bounds

    def of(m):
        return float(gemm(free, one, "bf16", m, 4096, tile).seconds[0])

    assert of(full) == pytest.approx(of(tile), rel=1e-4)
    assert of(over) > 1.8 * of(full)


def test_stores_of_all_but_the_last_wave_go_beside_main_loops_where_a_chip_does_so():
    apart, beside = (replace_spec(KERNELS.gemm, stores_beside=some) for some in ((), ("mma",)))

    def both(m):
        return [float(gemm(CHIP, kernels, "bf16", m, 128, 4096).seconds[0]) for kernels in (apart, beside)]

    one_wave, many_waves = both(128), both(16384)
    assert one_wave[0] == one_wave[1]
    saved_s, stored_s = many_waves[0] - many_waves[1], 2 * 16384 * 4096 / CHIP.memory_bytes_per_s
    assert 0.3 * stored_s < saved_s < 1.2 * stored_s / KERNELS.gemm.memory_efficiency
    hopper = replace(CHIP, instruction="wgmma")
    assert np.array_equal(*(gemm(hopper, k, "bf16", 16384, 128, 4096).seconds for k in (apart, beside)))


def test_an_operand_in_the_cache_loads_no_memory():
    assert seconds(64, 8192, 8192, left_cached=True) <= seconds(64, 8192, 8192)
    cached = gemm(CHIP, KERNELS.gemm, "bf16", 64, 8192, 8192, left_cached=True, out_cached=True)
    assert cached.done.memory_bytes[0] == 2 * 8192 * 8192


def test_power_slows_large_products_only_and_idle_bits_draw_less():
    weak = GpuChip(108, 1_410_000_000, RATES, 2.039e12, 40 * 2**20, "mma", "n7", 100.0)
    assert seconds(8192, 8192, 8192, weak) > seconds(8192, 8192, 8192)
    assert seconds(64, 64, 64, weak) == seconds(64, 64, 64)
    assert seconds(8192, 8192, 8192, activity=0.5) < seconds(8192, 8192, 8192)


def test_rows_that_need_padding_cost_a_copy():
    hopper = GpuChip(132, 1_980_000_000, {"fp8": 4096}, 3.35e12, 50 * 2**20, "wgmma", "4n", 700.0)
    form = KERNELS.gemm.formats["fp8_block"]
    assert form.pad_rows == 4
    aligned, odd = (seconds(m, 4096, 4096, hopper, "fp8_block") for m in (1024, 1023))
    assert odd - aligned > 0.9 * form.pad_us * 1e-6


def test_blocks_of_fp8_pay_for_quantising_waves_and_scales_only_where_they_have_them():
    hopper = GpuChip(112, 1_980_000_000, {"fp8": 4096}, 3.35e12, 50 * 2**20, "wgmma", "4n", None)
    form = KERNELS.gemm.formats["fp8_block"]
    shape = 4096, 7168, 4096
    alone, whole = (seconds(*shape, hopper, "fp8_block", quantised=ready) for ready in (True, False))
    copied_s = 4096 * 7168 * (2 + form.left_bytes) / (hopper.memory_bytes_per_s * form.quantise_efficiency)
    assert whole - alone == pytest.approx(form.around_us * 1e-6 + copied_s)
    # 112 tiles of 128 x 128 are a wave; more take another, of the same tiles or of halves of them.
    wave, more = (seconds(1024, 16384, 128 * wide, hopper, "fp8_block", quantised=True) for wide in (14, 15))
    assert 1.4 * wave < more < 2.0 * wave
    # A multiplication of 32 bits more, of each element and 128 of k, on 128 lanes.
    scaled = seconds(*shape, hopper, "fp8_block", quantised=True, column_scales=True)
    assert scaled - alone == pytest.approx(4096 * 7168 * 4096 / (128 * 128) / (hopper.sms * hopper.clock_hz), rel=0.2)
    plain, added = (
        gemm(hopper, KERNELS.gemm, "fp8_block", *shape, out_bytes=4.0, quantised=True, accumulates=adds)
        for adds in (False, True)
    )
    assert added.done.memory_bytes[0] - plain.done.memory_bytes[0] == 4 * 4096 * 4096
    assert added.seconds[0] > plain.seconds[0]


def test_what_a_chip_or_a_library_has_not_is_refused():
    with pytest.raises(InputError, match="this chip does not multiply fp8"):
        seconds(1, 1, 1, dtype="fp8")
    with pytest.raises(InputError, match="no GEMM kernels of format 'bf61': did you mean 'bf16'"):
        seconds(1, 1, 1, dtype="bf61")
    odd = GpuChip(1, 1, RATES, 1.0, 1, "mfma", "n7", None)
    with pytest.raises(InputError, match="'feed_bytes_per_cycle' has no entry for 'mfma'"):
        seconds(1, 1, 1, odd)
    with pytest.raises(InputError, match="'process_energy' has no entry for 'n77': did you mean 'n7'"):
        seconds(1, 1, 1, GpuChip(1, 1, RATES, 1.0, 1, "mma", "n77", None))


def test_plain_lanes_and_block_scales_are_those_of_chips_that_have_them():
    fp32 = {"dtype": "fp32", "m": 4096, "n": 4096, "k": 4096}
    for name, lanes in (("v100_sxm", 5120), ("h200_sxm", 16896)):
        chip = load_spec(name, ChipSpec, category="chips")
        tflops = answer(chip, "gemm", [fp32])[0]["tflops"]
        assert 0.6 < tflops / (2 * lanes * chip.clock * 1e-12) < 0.75
    b200, h200 = (load_spec(name, ChipSpec, category="chips") for name in ("b200_sxm", "h200_sxm"))
    rates = [answer(b200, "gemm", [fp32 | {"dtype": d}])[0]["tflops"] for d in ("bf16", "mxfp8", "mxfp4")]
    assert rates[0] < rates[1] < rates[2]
    with pytest.raises(InputError, match="this chip does not multiply fp4"):
        answer(h200, "gemm", [fp32 | {"dtype": "mxfp8"}])


def test_weights_of_four_bits_gain_what_they_save_until_the_tensor_cores_are_full():
    """Marlin on an A10 (arXiv 2408.11743, figure 1): near the ideal 3.87 up to 16 rows, about 1.5 at 128."""
    chip = load_spec("a10", ChipSpec, category="chips")
    rows = (1, 16, 32, 64, 128, 1024)
    wide, narrow = (
        answer(chip, "gemm", [{"dtype": dtype, "m": m, "n": 18432, "k": 18432} for m in rows])
        for dtype in ("bf16", "int4_wo")
    )
    gains = [w["latency_us"] / n["latency_us"] for w, n in zip(wide, narrow, strict=True)]
    assert gains == sorted(gains, reverse=True)
    assert 3.4 < gains[1] <= gains[0] < 3.88
    assert gains[4] == pytest.approx(1.5, rel=0.1)
    assert gains[-1] < 1


def test_kernels_for_few_rows_stop_at_their_last_row():
    chip = GpuChip(132, 1_980_000_000, {"bf16": 2048, "fp8": 4096}, 3.35e12, 50 * 2**20, "wgmma", "4n", 700.0)
    form = KERNELS.gemm.formats["fp8"]
    best = gemm(chip, KERNELS.gemm, "fp8", np.array([16, 64, 65, 65]), 4096, np.array([2048, 2048, 2048, 16384]))
    assert [form.every_tile[tile] in form.few_tiles for tile in best.tile] == [True, True, False, False]
    assert best.seconds[1] < best.seconds[2]


def test_work_outside_the_tensor_cores_weighs_less_where_these_are_slow():
    fast = GpuChip(132, 1_980_000_000, {"bf16": 2048, "fp8": 4096}, 3.35e12, 50 * 2**20, "wgmma", "4n", None)
    slow = replace(fast, macs_per_cycle={"bf16": 512, "fp8": 1024})
    shares = [
        2 * 8192**3 / seconds(8192, 8192, 8192, chip, "fp8_block") / (2 * 132 * chip.rate("fp8") * 1.98e9)
        for chip in (fast, slow)
    ]
    assert shares[0] < 0.6
    assert shares[1] > 0.75


# --- attention


def test_causal_prefill_takes_about_half_and_cached_keys_take_more():
    spec = KERNELS.attention.varieties["flash2"].prefill
    shape = AttentionShape.of
    causal, full = (float(prefill(CHIP, spec, shape(4, 32, 8, 128, 8192, causal=c))[0]) for c in (True, False))
    assert 0.45 < causal / full < 0.55
    after, alone = (float(prefill(CHIP, spec, shape(4, 32, 8, 128, 1024, before))[0]) for before in (4096, 0))
    assert after > alone


def test_attention_never_beats_the_tensor_cores_or_the_memory():
    rng = np.random.default_rng(7)
    batch, kv_heads = rng.integers(1, 64, (2, 300)).astype(float)
    heads, length = kv_heads * rng.integers(1, 9, 300), rng.integers(2, 8192, 300).astype(float)
    spec = KERNELS.attention.varieties["flash2"]
    took = prefill(CHIP, spec.prefill, AttentionShape.of(batch, heads, kv_heads, 128, length))
    flops = 4 * batch * heads * 128 * length * (length + 1) / 2
    assert (flops / took <= 2 * 108 * 1024 * 1.41e9).all()
    took = decode(CHIP, spec.decode, AttentionShape.of(batch, heads, kv_heads, 128, 1, length - 1))
    read = batch * kv_heads * 2 * length * 128 * 2
    outside = read > 40 * 2**20
    assert (read[outside] / took[outside] <= 2.039e12).all()


def test_decode_splits_keys_over_idle_processors_only_where_heads_share_them():
    spec = KERNELS.attention.varieties["flash2"].decode
    shared, single = (float(decode(CHIP, spec, AttentionShape.of(1, h, 8, 128, 1, 65535))[0]) for h in (32, 8))
    assert shared < single / 4


def test_products_of_a_decoded_block_show_only_where_tensor_cores_are_slow():
    spec = KERNELS.attention.variety("flash3").decode
    bare = replace_spec(spec, tensor_efficiency=None)
    fast = replace(CHIP, macs_per_cycle={"bf16": 2048}, instruction="wgmma")
    slow = replace(fast, macs_per_cycle={"bf16": 512})
    for heads, shows in ((8, False), (64, True)):  # a key's heads, of 16 rows and of 64
        shape = AttentionShape.of(64, heads, 1, 128, 1, 16383)
        assert float(decode(fast, spec, shape)[0]) == pytest.approx(float(decode(fast, bare, shape)[0]), rel=0.2)
        longer = float(decode(slow, spec, shape)[0]) / float(decode(slow, bare, shape)[0])
        assert longer > 2.0 if shows else longer < 2.0


def test_grouped_heads_fill_eight_waves_with_splits_and_leave_few_blocks_to_the_other_kernel():
    kernels = KERNELS.attention
    plain = kernels.varieties["tensorrt_llm_multihead"].decode

    def took(batch, keys, name="tensorrt_llm_grouped"):
        return float(kernels.decode(CHIP, name, AttentionShape.of(batch, 8, 1, 128, 1, keys - 1), 2.0)[0])

    # 108 SMs: 26 blocks of 128 keys are less than a quarter of them, 27 are not.
    assert took(26, 255) == float(decode(CHIP, plain, AttentionShape.of(26, 8, 1, 128, 1, 254))[0])
    assert took(27, 255) < 0.99 * float(decode(CHIP, plain, AttentionShape.of(27, 8, 1, 128, 1, 254))[0])
    # The least that splits: 256 keys in two parts, which a second kernel combines.
    spec = kernels.varieties["tensorrt_llm_grouped"].decode
    halves = replace_spec(spec, combine_us=0.0)
    shape = AttentionShape.of(64, 8, 1, 128, 1, np.array([254, 255]))
    combined = decode(CHIP, spec, shape) - decode(CHIP, halves, shape)
    np.testing.assert_allclose(combined, [0.0, spec.combine_us * 1e-6], atol=1e-12)


HOPPER = GpuChip(132, 1_980_000_000, {"bf16": 2048}, 3.35e12, 50 * 2**20, "wgmma", "4n", 700.0)
SHAPES = st.tuples(
    st.integers(1, 64), st.sampled_from([(8, 8), (32, 8), (128, 1)]), st.integers(1, 3000), st.integers(0, 9000)
)


def _took(shape):
    """Prefill and decode, s."""
    spec = KERNELS.attention.varieties
    return [
        float(seconds[0])
        for name in ("flash2", "flash3", "flash_mla")
        for part, time in ((spec[name].prefill, prefill), (spec[name].decode, decode))
        if part is not None
        for seconds in [time(HOPPER, part, shape)]
    ]


@given(SHAPES, st.integers(1, 20_000))
def test_windows_save_what_they_leave_out_and_nothing_where_they_hold_all(sizes, window):
    batch, (heads, kv_heads), length, cached = sizes

    def shape(**more):
        return AttentionShape.of(batch, heads, kv_heads, 128, length, cached, **more)

    every, banded, wider = shape(), shape(window=window), shape(window=window + 1)
    for all_keys, few, more in zip(_took(every), _took(banded), _took(wider), strict=True):
        assert few <= more <= all_keys
    if window >= cached + length:
        assert _took(banded) == _took(every)
        assert (banded.flops(), banded.bytes()) == (every.flops(), every.bytes())
    # Pair by pair: query i of the new ones sees the keys up to its own, a window of them at most.
    pairs = sum(min(cached + i + 1, window) for i in range(length))
    assert banded.flops()[0] == 4 * batch * heads * 128 * pairs
    assert banded.keys[0] == min(cached + length, window + length - 1)


@given(SHAPES, st.integers(1, 512))
def test_values_may_be_narrower_than_keys_and_shared_with_them_they_are_read_once(sizes, values):
    batch, (heads, kv_heads), length, cached = sizes

    def shape(v_head_dim, kv_shared=False):
        return AttentionShape.of(
            batch, heads, kv_heads, 512, length, cached, v_head_dim=v_head_dim, kv_shared=kv_shared
        )

    assert _took(shape(512)) == _took(AttentionShape.of(batch, heads, kv_heads, 512, length, cached))
    for narrow, plain in zip(_took(shape(values)), _took(shape(512)), strict=True):
        assert narrow <= plain
    for once, twice in zip(_took(shape(values, True)), _took(shape(values)), strict=True):
        assert once <= twice
    assert shape(values, True).stored[0] * (512 + values) == shape(values).stored[0] * 512


def test_latent_decode_waits_for_the_memory_with_few_heads_and_for_the_tensor_cores_with_many():
    spec = KERNELS.attention.varieties["flash_mla"].decode

    def latent(heads, chip=HOPPER):
        return float(decode(chip, spec, AttentionShape.of(128, heads, 1, 576, 1, 16383, 512, kv_shared=True))[0])

    cache_s = 128 * 16384 * 576 * 2 / 3.35e12
    assert cache_s < latent(16) < 1.6 * cache_s  # within what the library reports: 3 TB/s of an H800's 3.35
    slow = replace(HOPPER, macs_per_cycle={"bf16": 512})
    assert latent(128, slow) > 2 * latent(128)
    assert 2 * 128 * 128 * 16384 * 1088 / latent(128) < 2 * 132 * 2048 * 1.98e9


@pytest.mark.parametrize(
    ("model", "kernel"), [("deepseek-v2-lite", "flash_mla, 16 heads"), ("gemma-2-2b", "flash3, 2 ")]
)
def test_latent_attention_and_windows_of_a_model_are_whole_kernels(model, kernel):
    workload = {"kind": "transformer", "model": model, "batch": 4, "input": 6000, "output": 2}
    rows = run({"name": "r", "chip": "h100_sxm", "workload": workload}).op_rows
    attention = [r for r in rows if r["kind"] == "attention"]
    assert {r["why"].startswith("flash") for r in attention} == {True}
    decoding = [r for r in attention if r["name"].startswith("decode")]
    assert all(r["why"].startswith(kernel) for r in decoding)
    if model == "gemma-2-2b":  # every second layer sees 4,096 keys
        assert len({r["cycles"] for r in decoding}) == 2


# --- experts


@pytest.mark.parametrize(("tokens", "count", "topk"), [(1, 128, 8), (5, 8, 2), (64, 128, 8), (1000, 160, 6)])
def test_balanced_tokens_are_those_of_the_rule_spelled_out(tokens, count, topk):
    stride = math.ceil(count / topk)
    naive = np.zeros(count)
    for t in range(tokens):
        for i in range(topk):
            first = t if tokens >= stride else t * stride // tokens
            naive[(first + i * stride) % count] += 1
    np.testing.assert_array_equal(balanced(tokens, count, topk), naive)
    assert naive.sum() == tokens * topk


@given(
    st.integers(1, 60),
    st.sampled_from([(8, 2), (16, 4), (96, 8)]),
    st.sampled_from([1, 2, 4, 8]),
    st.sampled_from([1.01, 1.2, 3.0]),
    st.integers(0, 99),
)
def test_visits_that_rounding_leaves_over_go_one_by_one_to_the_experts_with_fewest(tokens, sizes, groups, alpha, seed):
    experts, topk = sizes
    uniform = np.random.default_rng(seed).random(experts)
    visits = tokens * topk
    low, high = (1.0, tokens * 0.8) if visits > experts else (0.01, 2.0)
    share = (low ** (1 - alpha) + (high ** (1 - alpha) - low ** (1 - alpha)) * uniform) ** (1 / (1 - alpha))
    naive = [[min(round(s), tokens) for s in group] for group in (share / share.sum() * visits).reshape(groups, -1)]
    while (left := visits - sum(map(sum, naive))) != 0:
        for group in naive:
            if left > 0 and min(group) < tokens:
                group[group.index(min(group))] += 1
                left -= 1
            elif left < 0 and max(group) > 0:
                group[group.index(max(group))] -= 1
                left += 1
    counts = power_law(tokens, experts, topk, alpha, uniform, groups)
    np.testing.assert_array_equal(counts, np.concatenate(naive))
    assert counts.sum() == visits
    assert counts.max() <= tokens


def test_few_visits_drawn_for_all_experts_fall_to_the_first_rank():
    # Four tokens visit 384 experts 32 times; shares round to nothing, so the first 32 experts get one each.
    case = [4], [384], [8], [32], ["power_law_1.2"]
    assert load(*case, "over experts").active[0] > 11
    assert load(*case, "over ranks").active[0] < 4


def _product_s(chip, dtype, rows, tokens, width=0, k=4096, n=4096):
    visits = sum(rows)
    return float(grouped_gemm(chip, KERNELS.experts, dtype, load_of(rows), tokens, visits, width, k, n).seconds[0])


@pytest.mark.parametrize("distribution", ["balanced", "power_law_1.2"])
def test_tiles_of_other_ranks_are_launched_too(distribution):
    """A rank's blocks and those it skips are all ranks' blocks, and each one skipped takes its turn."""
    whole, part = (load([160], [256], [8], [ranks], [distribution], "over experts") for ranks in (1, 32))
    assert (whole.skipped == 0).all()
    assert part.blocks + part.skipped == pytest.approx(whole.blocks)
    kernels = KERNELS.on("tcgen05", "4np").experts
    chip = GpuChip(148, 1_965_000_000, {"bf16": 4096, "fp8": 8192}, 8e12, 126 * 2**20, "tcgen05", "4np", None)
    free = replace_spec(kernels, tiles={n: replace_spec(t, skipped_cycles=0.0) for n, t in kernels.tiles.items()})
    took, without = (
        float(experts(chip, held, "bf16", part, 160, 160 * 8, 4096, 2048).seconds[0]) for held in (kernels, free)
    )
    strips = 2 * 2048 / 128 + 4096 / 128
    turns = part.skipped[0, 3] * strips * kernels.tiles["64x128"].skipped_cycles / chip.sms
    assert took - without == pytest.approx(turns / chip.clock_hz)


def test_a_library_changes_its_tiles_where_its_rule_says():
    # vLLM 0.14 on Ampere: narrow tiles up to a token per expert; the wide ones after it read slower.
    few, many = (_product_s(CHIP, "bf16", [2] * 64, tokens) for tokens in (64, 65))
    assert many > 1.2 * few
    # Tuned tiles for this size of experts alone.
    tuned, next_to_it = (_product_s(CHIP, "bf16", [512] * 8, 2048, width) for width in (3584, 3585))
    assert next_to_it > 1.3 * tuned
    # Weights of 4 bits: the plain lanes take them up to six visits per expert.
    up_to, beyond = (_product_s(HOPPER, "int4_wo", [6] * 47 + [last], 100) for last in (6, 7))
    assert beyond < 0.99 * up_to


def test_strips_that_the_l2_does_not_hold_come_from_the_memory():
    rows, small, large = [4096] * 8, replace(CHIP, l2_bytes=2**20), replace(CHIP, l2_bytes=2**34)
    slow, fast = (_product_s(chip, "bf16", rows, 16384, k=14336) for chip in (small, large))
    assert slow > 1.2 * fast


@given(
    st.floats(0.0, 4.0),
    st.lists(st.integers(0, 3000), min_size=1, max_size=8).filter(any),
    st.sampled_from([(512, 512), (2880, 1440), (7168, 4096)]),
)
def test_widening_takes_cycles_of_the_main_loop(cycles: float, rows: list[int], size: tuple[int, int]) -> None:
    """As those of a format whose main loop takes so many more; little where weights are waited for."""
    assert KERNELS.experts is not None
    form = KERNELS.experts.formats["bf16"]
    outside = form.outside_cycles | {"wgmma": form.outside_cycles["wgmma"] + cycles}
    other = KERNELS.experts.model_copy(
        update={"formats": {"bf16": form.model_copy(update={"outside_cycles": outside})}}
    )
    asked = load_of(rows), max(rows), sum(rows), size[1], *size, (None, 0.53)
    widened = grouped_gemm(HOPPER, KERNELS.experts, "bf16", *asked, widening_cycles=cycles)
    assert widened.seconds == grouped_gemm(HOPPER, other, "bf16", *asked).seconds
    assert widened.seconds >= grouped_gemm(HOPPER, KERNELS.experts, "bf16", *asked).seconds


def test_choices_without_an_end_and_tiles_that_are_not_there_are_refused():
    data = KERNELS.experts.model_dump(exclude_none=True)
    data["choices"]["mma"] = [{"tokens": 8, "tiles": ["16x32"]}]
    with pytest.raises(ValueError, match=r"'choices\.mma': the last choice has no bounds"):
        ExpertKernelsSpec.model_validate(data)
    data["choices"]["mma"] = [{"tiles": ["16x33"]}]
    with pytest.raises(ValueError, match="names no tile '16x33': did you mean"):
        ExpertKernelsSpec.model_validate(data)


def test_the_layer_is_its_two_products():
    spec, loads = KERNELS.experts, load_of([3, 0, 200, 17])
    up = grouped_gemm(HOPPER, spec, "bf16", loads, 110, 220, 1536, 4096, 2 * 1536)
    down = grouped_gemm(HOPPER, spec, "bf16", loads, 110, 220, 1536, 1536, 4096)
    layer = experts(HOPPER, spec, "bf16", loads, 110, 220, 4096, 1536)
    assert layer.seconds == up.seconds + down.seconds
    assert layer.flops == 6 * 220 * 4096 * 1536
    assert layer.memory_bytes == up.memory_bytes + down.memory_bytes


def test_loads_of_unknown_distributions_and_ranks_are_refused():
    with pytest.raises(InputError, match="no distribution of tokens is called 'even'"):
        load([8], [8], [2], [1], ["even"])
    with pytest.raises(InputError, match="8 experts cannot be spread over 3 ranks"):
        load([8], [8], [2], [3], ["balanced"])


# --- row-wise functions


def test_long_rows_are_read_again_and_many_rows_take_turns():
    spec = KERNELS.elementwise
    per_element = [float(elementwise(CHIP, spec, "layernorm", 2**28 // w, w)[0][0]) for w in (4096, 65536)]
    assert per_element[1] > 1.3 * per_element[0]
    few, many = (float(elementwise(CHIP, spec, "rmsnorm", rows, 4096)[0][0]) for rows in (64, 6400))
    assert few < many
    with pytest.raises(InputError, match="no kernel of function 'sofmax' is known: did you mean 'softmax'"):
        elementwise(CHIP, spec, "sofmax", 1, 1)


# --- in a run


def test_a_run_takes_the_cycles_of_the_gemm_asked_alone():
    chip = load_spec("a100_sxm", ChipSpec, category="chips")
    alone = answer(chip, "gemm", [{"m": 4096, "n": 4096, "k": 4096, "dtype": "bf16"}])[0]
    product = {"name": "g", "m": 4096, "k": 4096, "n": 4096}
    result = run({"name": "g", "chip": "a100_sxm", "workload": {"kind": "gemm", "gemms": [product]}})
    home = result.placement.home
    assert all(path == "chip.hbm" for path in home.values())  # the same operands come from memory
    assert result.op_rows[0]["cycles"] == math.ceil(alone["latency_us"] * 1e-6 * chip.clock)


def test_a_convolution_reads_its_input_and_not_its_windows():
    layer = {"name": "c", "size": 56, "in_channels": 256, "out_channels": 256, "kernel": 3, "padding": 1}
    workload = {"kind": "convolutions", "batch": 32, "dtype": "bf16", "layers": [layer]}
    implicit, lowered = (
        run({"name": "c", "chip": "h100_sxm", "workload": workload | {"lowering": lowering}}).op_rows[0]
        for lowering in ("line_buffer", "im2col")
    )
    maps, filters = 2 * 32 * 56 * 56 * 256, 2 * 9 * 256 * 256
    assert lowered["bytes"] - implicit["bytes"] == 8 * maps  # windows of nine taps; filters come again with each wave
    assert implicit["bytes"] >= 2 * maps + filters
    chip = load_spec("h100_sxm", ChipSpec, category="chips")
    product = answer(chip, "gemm", [{"m": 32 * 56 * 56, "n": 256, "k": 9 * 256, "dtype": "bf16"}])[0]
    assert lowered["cycles"] == math.ceil(product["latency_us"] * 1e-6 * chip.clock)
    assert implicit["time_s"] < 0.8 * lowered["time_s"]


def test_a_run_takes_the_cycles_of_attention_asked_alone():
    chip = load_spec("h100_sxm", ChipSpec, category="chips")
    result = run(
        {
            "name": "r",
            "chip": "h100_sxm",
            "workload": {"kind": "transformer", "model": "llama-3-8b", "batch": 4, "input": 1024, "output": 2},
        }
    )
    shape = {"batch": 4, "heads": 32, "kv_heads": 8, "head_dim": 128, "kv_dtype": "bf16"}
    cases = [{**shape, "phase": "prefill", "isl": 1024, "kv_len": 1024}]
    alone = answer(chip, "attention", cases)[0]
    rows = [r for r in result.op_rows if r["kind"] == "attention" and r["name"].startswith("prefill")]
    assert len(rows) == 32
    assert {r["cycles"] for r in rows} == {math.ceil(alone["latency_us"] * 1e-6 * chip.clock)}


def test_a_run_takes_the_time_of_experts_and_row_wise_functions_asked_alone():
    chip = load_spec("h100_sxm", ChipSpec, category="chips")
    machine = Machine(load_spec({"name": "x", "chip": "h100_sxm"}, SystemSpec))
    weights = 3 * 8 * 4096 * 14336 * 2
    program = Program("x", (), resident_bytes={Role.WEIGHT: weights}, activation_bytes=2**20)
    mapper = Mapper(machine, machine.place(program))
    rows = tuple(int(count) for count in balanced(64, 8, 2))
    took = [
        mapper.lower(GroupedMatMul(name=name, rows=rows, k=k, n=n, tokens=64, width=14336)).cycles
        for name, k, n in (("gate_up", 4096, 2 * 14336), ("down", 14336, 4096))
    ]
    case = {"num_tokens": 64, "hidden": 4096, "inter": 14336, "topk": 2, "experts": 8, "tp": 1, "ep": 1}
    alone = answer(chip, "moe", [case | {"distribution": "balanced", "dtype": "bf16"}])[0]
    assert 0 <= sum(took) - alone["latency_us"] * 1e-6 * chip.clock < 2
    norm = mapper.lower(Vector(name="norm", function="rmsnorm", rows=512, width=4096))
    alone = answer(chip, "elementwise", [{"op": "rmsnorm", "rows": 512, "cols": 4096}])[0]
    assert norm.cycles == math.ceil(alone["latency_us"] * 1e-6 * chip.clock)


def test_functions_that_a_kernel_of_experts_holds_are_not_counted_again():
    workload = {"kind": "transformer", "model": "olmoe-1b-7b", "batch": 8, "input": 32, "output": 2}
    spec = {"name": "r", "chip": "h200_sxm", "workload": workload}

    def around(**overrides):
        rows = run(spec, overrides).op_rows
        return [r for r in rows if r["name"].endswith((".experts_activation", ".experts_sum"))]

    assert {(r["duration_s"], r["energy_j"]) for r in around()} == {(0.0, 0.0)}
    assert all(r["duration_s"] > 0 for r in around(**{"chip.engines.sm.kernels": "null"}))


# --- the command


def test_the_command_answers_one_kernel_and_a_file(tmp_path, capsys):
    arguments = ["--chip", "h100_sxm", "--dtype", "bfloat16", "-m", "512", "-n", "512", "-k", "512"]
    assert main(["kernel", *arguments, "--json"]) == 0
    one = json.loads(capsys.readouterr().out)
    assert one["latency_low_us"] < one["latency_us"] < one["latency_high_us"]
    cases = tmp_path / "cases.csv"
    cases.write_text("device,dtype,m,n,k,latency_us,op\nh100_sxm,bfloat16,512,512,512,7.5,linear\n")
    assert main(["kernel", "--cases", str(cases), "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)
    assert row["latency_us"] == one["latency_us"]
    assert (row["given_latency_us"], row["op"]) == ("7.5", "linear")


@pytest.mark.parametrize(
    ("op", "pairs"),
    [
        ("attention", "phase=decode batch=8 isl=1 kv_len=4096 heads=32 kv_heads=8 head_dim=128 kv_dtype=fp8"),
        ("attention", "phase=prefill batch=1 isl=4096 heads=32 kv_heads=8 head_dim=128"),
        ("moe", "num_tokens=512 hidden=4096 inter=14336 topk=2 experts=8 dtype=fp8 distribution=power_law_1.2"),
        ("elementwise", "function=rmsnorm rows=4096 cols=8192"),
    ],
)
def test_the_command_answers_the_other_kernels(op, pairs, capsys):
    options = [part for pair in pairs.split() for part in ("--with", pair)]
    assert main(["kernel", "--chip", "h100_sxm", "--op", op, *options, "--json"]) == 0
    one = json.loads(capsys.readouterr().out)
    assert one["latency_us"] > 5
    assert one["bound"] in ("memory", "compute")


def test_a_measurement_adds_what_the_host_takes(tmp_path, capsys):
    cases = tmp_path / "cases.csv"
    head = "device,dtype,m,n,k,measurement,op,power_w\n"
    cases.write_text(head + "a40,fp16,64,64,64,,linear,\na40,fp16,64,64,64,,vidur:x,\n")
    assert main(["kernel", "--cases", str(cases), "--json"]) == 0
    graph, profiled = json.loads(capsys.readouterr().out)
    gap = KERNELS.measurements["profiler"].gap_us["gemm"]
    assert profiled["latency_us"] - graph["latency_us"] == pytest.approx(gap, rel=0.01)  # replays stay in the L2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--chip", "h100_sxm", "--dtype", "fp4", "-m", "1", "-n", "1", "-k", "1"], "no GEMM kernels of format 'fp4'"),
        (["--chip", "a100_sxm", "--dtype", "fp8", "-m", "1", "-n", "1", "-k", "1"], "does not multiply fp8"),
        (["--chip", "h100_sxm", "--dtype", "bf16", "-m", "0", "-n", "1", "-k", "1"], "-m: expected a whole number"),
        (["--chip", "tpu_v4i", "--dtype", "bf16", "-m", "1", "-n", "1", "-k", "1"], "no GPU engine with 'kernels'"),
        (["--dtype", "bf16", "-m", "1", "-n", "1", "-k", "1"], "--chip: is missing"),
        (
            ["--chip", "h100_sxm", "--op", "gem", "--dtype", "bf16", "-m", "1", "-n", "1", "-k", "1"],
            "did you mean 'gemm'",
        ),
        (["--chip", "h100_sxm", "--op", "attention", "--with", "heds=8"], "did you mean 'heads'"),
        (["--chip", "h100_sxm", "--cases", "nowhere.csv"], "cannot read it"),
        (
            ["--chip", "h100_sxm", "--op", "attention"]
            + [
                f"--with={p}"
                for p in ["phase=prefill", "batch=1", "isl=9", "kv_len=8", "heads=1", "kv_heads=1", "head_dim=64"]
            ],
            "'kv_len' is less than 'isl'",
        ),
        (
            ["--chip", "h100_sxm", "--op", "attention"]
            + [
                f"--with={p}"
                for p in ["phase=decode", "batch=1", "isl=2", "kv_len=8", "heads=1", "kv_heads=1", "head_dim=64"]
            ],
            "'isl' is 1 in decoding",
        ),
        (
            ["--chip", "h100_sxm", "--op", "attention"]
            + [f"--with={p}" for p in ["phase=prefill", "batch=1", "isl=9", "heads=3", "kv_heads=2", "head_dim=64"]],
            "'heads' is no multiple of 'kv_heads'",
        ),
        (
            ["--chip", "h100_sxm", "--op", "attention", "--with=kv_dtype=fp3"]
            + [f"--with={p}" for p in ["phase=prefill", "batch=1", "isl=9", "heads=2", "kv_heads=2", "head_dim=64"]],
            "a cache of format 'fp3': did you mean 'fp8'",
        ),
        (
            ["--chip", "h100_sxm", "--op", "moe", "--dtype", "fp8"]
            + [f"--with={p}" for p in ["num_tokens=4", "hidden=64", "inter=8", "topk=1", "experts=2", "tp=16"]],
            "'tp' is more than 'inter'",
        ),
        (
            ["--chip", "h100_sxm", "--op", "elementwise"]
            + [f"--with={p}" for p in ["function=rmsnorm", "rows=0", "cols=8"]],
            "rows=...: expected a whole number",
        ),
    ],
)
def test_bad_kernels_are_refused(arguments, said, capsys):
    assert main(["kernel", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_queries_of_a_latent_cache_are_as_many_heads():
    sizes = {
        "phase": "decode",
        "kv_dtype": "bf16",
        "batch": 8,
        "kv_len": 4096,
        "kv_heads": 1,
        "head_dim": 576,
        "v_head_dim": 512,
    }
    chip = load_spec("h100_sxm", ChipSpec, category="chips")
    cases = [sizes | {"isl": isl, "heads": heads, "kv_shared": 1} for isl, heads in ((4, 64), (1, 256), (1, 64))]
    drafted, many, one = (found["latency_us"] for found in answer(chip, "attention", cases))
    assert one < drafted == pytest.approx(many, rel=1e-3)


def test_an_error_names_the_line(tmp_path, capsys):
    cases = tmp_path / "cases.csv"
    cases.write_text("device,dtype,m,n,k\nh100_sxm,bf16,1,1,1\na100_sxm,bf16,1,1,1\na100_sxm,fp8,1,1,1\n")
    assert main(["kernel", "--cases", str(cases)]) == 2
    assert "cases.csv:4:1: chip 'A100 SXM': this chip does not multiply fp8: it has" in capsys.readouterr().err


def test_a_format_of_16_bits_that_a_chip_has_not_is_refused():
    volta = load_spec("v100_sxm", ChipSpec, category="chips")
    case = {"m": 64, "n": 64, "k": 64}
    assert answer(volta, "gemm", [case | {"dtype": "float16"}])[0]["latency_us"] > 0
    with pytest.raises(InputError, match="chip 'V100 SXM': this chip does not multiply bf16: it has fp16"):
        answer(volta, "gemm", [case | {"dtype": "bfloat16"}])


def test_chips_without_rows_carry_the_widest_band_of_all_releases():
    on = KERNELS.on("tcgen05", "4np")
    seen, unseen = on.band("gemm fp8_block", "B200 SXM"), on.band("gemm fp8_block", "B300 SXM")
    others = [KERNELS.on("wgmma", "4n", name).bands["gemm fp8_block"] for name in ("vllm_0_19", "vllm_0_22")]
    for low, high in (seen, *others):
        assert unseen[0] <= low**KERNELS.unseen_spread
        assert high**KERNELS.unseen_spread <= unseen[1]


def test_the_picture_has_a_panel_per_chip_and_kernel():
    times = {
        ("gemm", "a"): (np.array([1.0, 10.0]), np.array([1.1, 9.0]), np.array([1.0, 1.0])),
        ("moe", "b"): (np.array([5.0]), np.array([50.0]), np.array([1.0])),
    }
    page = picture(times)
    root = ElementTree.fromstring(page)
    assert len(root.findall(".//{*}circle")) == 3
    assert (
        len([text for text in root.iter("{http://www.w3.org/2000/svg}text") if text.text.startswith(("a:", "b:"))]) == 2
    )


def _gpus():
    for name in shipped("chips"):
        engines = load_spec(name, ChipSpec, category="chips").engines.values()
        if any(engine.kind == "gpu_sm" and engine.kernels is not None for engine in engines):
            yield name


@pytest.mark.parametrize("name", list(_gpus()))
def test_every_gpu_runs_a_model(name):
    workload = {"kind": "transformer", "model": "llama-3.2-1b", "batch": 1, "input": 64, "output": 1, "dtype": "fp16"}
    result = run({"name": "r", "chip": name, "workload": workload})
    assert result.time_s > 0
    assert result.energy_j > 0
