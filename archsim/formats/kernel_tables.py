"""Tables of measured kernels as their makers write them: what each row asks, in the columns of ``archsim kernel``.

LLMCompass's operators and its layer of GPT-3 (calls of PyTorch on 16-bit numbers), InferSim's kernels on H20 and H800.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from archsim.errors import InputError, shortened

Row = Mapping[str, str]

_DEVICES = {"A100": "a100_sxm4_80g", "A100-80GB": "a100_sxm4_80g", "MI210": "mi210", "h20": "h20", "h800": "h800_sxm"}
_ROWWISE = {"softmax": "softmax", "layernorm": "layernorm", "gelu": "gelu"}
_WIDTH, _HEADS, _HEAD, _RANKS, _BATCH = 12288, 96, 128, 4, 8  # GPT-3 as LLMCompass cuts it
_TOKENS = {"prefill": (2048, 2048), "decode": (1, 3072)}  # queries and keys
_CALLS = {"measurement": "pytorch"}
_EXCHANGE = "an exchange between GPUs is no kernel of one: ask 'archsim collective'"


@dataclass(frozen=True)
class Asked:
    """What a row asks: gemm, attention, moe or elementwise, its columns, and how many such calls are one row."""

    op: str
    columns: dict[str, str]
    calls: int = 1


def read(row: Row) -> Asked | None:
    """What a row of these tables asks; None: it is of none of them.

    Raises
    ------
    InputError: it asks what no kernel here answers.
    """
    if row.get("shape") and row.get("measured_us"):
        return _operator(row["op"], row["device"], row["shape"])
    if row.get("model") == "gpt3-175b-layer" and row.get("op"):
        return _of_layer(row["op"], row["device"], row["phase"])
    if row.get("shape_tag") and row.get("kernel"):
        return _inference(row)
    return None


def _device(name: str) -> dict[str, str]:
    """The column ``device`` of one of several equal GPUs: ``4xA100-80GB``, ``A100x4``."""
    plain = re.sub(r"^\d+x|x\d+$", "", name)
    return {"device": _DEVICES.get(plain, plain)}


def _operator(op: str, device: str, shape: str) -> Asked:
    layer = re.fullmatch(r"gpt3_layer_(prefill|decode)_(op|TOTAL)", op)
    if layer:
        return _of_layer(shape if layer[2] == "op" else "TOTAL", device, layer[1])
    if op == "allreduce":
        raise InputError(_EXCHANGE)
    sizes = shape.split("x")
    if op == "matmul" and len(sizes) == 3:
        m, k, n = sizes
        return Asked("gemm", _device(device) | _CALLS | {"dtype": "float16", "m": m, "n": n, "k": k})
    if op in _ROWWISE and len(sizes) in (1, 2):
        rows, cols = sizes if len(sizes) == 2 else (sizes[0], "1")
        return Asked("elementwise", _device(device) | _CALLS | {"op": _ROWWISE[op], "rows": rows, "cols": cols})
    raise InputError(f"no operator '{shortened(op)}' of shape '{shortened(shape)}' is known")


def _of_layer(name: str, device: str, phase: str) -> Asked:
    """An operator of the layer, on one of four GPUs."""
    if phase not in _TOKENS:
        raise InputError(f"no phase is called '{shortened(phase)}': prefill, decode")
    queries, keys = _TOKENS[phase]
    tokens, pairs, part = _BATCH * queries, _BATCH * _HEADS // _RANKS, _WIDTH // _RANKS
    products = {
        "Q_K_V": (tokens, _WIDTH, part, 1, 3),
        "Q_mul_K": (queries, _HEAD, keys, pairs, 1),
        "A_mul_V": (queries, keys, _HEAD, pairs, 1),
        "Wo_proj": (tokens, part, _WIDTH, 1, 1),
        "W1_proj": (tokens, _WIDTH, 4 * part, 1, 1),
        "W2_proj": (tokens, 4 * part, _WIDTH, 1, 1),
    }
    rowwise = {
        "Softmax": ("softmax", pairs * queries, keys),
        "LayerNorm_MHA": ("layernorm", tokens, _WIDTH),
        "LayerNorm_FFN": ("layernorm", tokens, _WIDTH),
        "GeLU": ("gelu", tokens * 4 * part, 1),
    }
    if name in products:
        m, k, n, groups, calls = products[name]
        sizes = {"dtype": "float16", "m": str(m), "n": str(n), "k": str(k), "groups": str(groups)}
        return Asked("gemm", _device(device) | _CALLS | sizes, calls)
    if name in rowwise:
        function, rows, cols = rowwise[name]
        return Asked("elementwise", _device(device) | _CALLS | {"op": function, "rows": str(rows), "cols": str(cols)})
    if name.startswith("AllReduce"):
        raise InputError(_EXCHANGE)
    raise InputError(
        f"'{shortened(name)}' is no kernel: a layer is the sum of its kernels and exchanges ('archsim run')"
    )


def _inference(row: Row) -> Asked:
    """A row of InferSim's; products come quantised in blocks, as DeepGEMM takes them."""
    kind, _, phase = row["kernel"].partition("/")
    found = _device(row["gpu"])
    if kind == "gemm":
        sizes = {name: row.get(name, "") for name in ("m", "n", "k")}
        return Asked("gemm", found | sizes | {"dtype": "fp8_block", "library": "deepgemm", "quantised": "1"})
    if kind in ("mha", "mla"):
        length, one = row.get("kv_len") or row.get("seq_len", ""), phase == "decode"
        found |= {
            "phase": phase,
            "kv_len": length,
            "isl": "1" if one else length,
            "kv_dtype": row.get("kv_dtype") or "bf16",
        }
        return Asked(
            "attention", found | {"batch": row.get("batch_size") or "1", "kernel": "", **_heads(kind, phase, row)}
        )
    known = {
        "dsa": "attention to a chosen few of the keys has no kernel here",
        "gdn": "gated linear attention has no measured kernel here: 'archsim run' estimates one",
        "grouped_gemm": "the two products of experts apart have no kernel here: ask for the layer (--op moe)",
    }
    raise InputError(known.get(kind, f"no kernel is called '{shortened(row['kernel'])}'"))


def _heads(kind: str, phase: str, row: Row) -> dict[str, str]:
    """Heads by the tag: ``heads-kv_heads-head_dim``, ``heads-latent-rope`` (decoded), ``heads-value-rope``."""
    sizes = row["shape_tag"].split("-")
    if len(sizes) != 3 or not all(size.isdecimal() for size in sizes):
        raise InputError(f"'{shortened(row['shape_tag'])}' is not written like 128-512-64")
    heads, second, third = map(int, sizes)
    if kind == "mha":
        return {"heads": str(heads), "kv_heads": str(second), "head_dim": str(third)}
    wide = {"head_dim": str(second + third), "v_head_dim": str(second)}
    shared = {"kv_heads": "1", "kv_shared": "1"} if phase == "decode" else {"kv_heads": str(heads)}
    return {"heads": str(heads), **shared, **wide}
