"""Towers of images before a language model: what each family's configuration says of them.

Shapes and defaults are those of the classes of the ``transformers`` library, 4.57.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from archsim.workloads.huggingface.config import Config, Fields
from archsim.workloads.huggingface.decoders import biases
from archsim.workloads.huggingface.encoders import clip_vision, siglip_vision

_MOST_PATCHES = 65_536
"""of an image: what the processors of Qwen's models take at most, 12.8 million pixels"""

_SMALL = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
_TOWERS: Mapping[str, tuple[Callable[[Config], Fields], dict[str, int]]] = {
    "clip_vision_model": (clip_vision, _SMALL | {"image_size": 224, "patch_size": 32}),
    "siglip_vision_model": (siglip_vision, _SMALL | {"image_size": 224, "patch_size": 16}),
}


def _vision(c: Config, defaults: Mapping[str, int]) -> Config:
    """What is said of the tower; what is wrong there is told with the others."""
    data = c.data["vision_config"]
    if not isinstance(data, Mapping):
        c.problem("vision_config", "expected a mapping")
        data = {}
    part = Config(data, c.where, defaults)
    part.problems = c.problems
    return part


def _published(c: Config, usual: str) -> Fields:
    """A tower that is published by itself."""
    told = c.data["vision_config"]
    kind = str(told.get("model_type") or usual) if isinstance(told, Mapping) else usual
    if kind not in _TOWERS:
        c.refuse("vision_config", f"a tower of kind '{kind[:40]}' is")
        kind = usual
    read, defaults = _TOWERS[kind]
    return read(_vision(c, defaults)) | {"name": "vision"}


def llava(c: Config, hidden: int) -> Fields:
    """CLIP's patches but the class token, through an MLP; all layers of the tower are run."""
    tower = _published(c, "clip_vision_model")
    bias = c.flag("multimodal_projector_bias", True)
    dropped = int(tower["encoder"]["table"])
    return {"tower": tower, "projector": {"inner": hidden, "bias": bias, "dropped": dropped}}


def gemma3(c: Config, hidden: int) -> Fields:
    """SigLIP's patches, averaged to so many tokens, through a norm and one product."""
    tower = _published(c, "siglip_vision_model")
    tokens = max(c.maybe("mm_tokens_per_image", 256), 1)
    projector = {"averaged": max(tower["max_positions"] // tokens, 1), "bias": False, "norm": "rmsnorm"}
    return {"tower": tower, "projector": projector}


def _qwen(c: Config, heads: str, defaults: Mapping[str, int], patch: int) -> tuple[Config, Fields, int]:
    """What the towers of Qwen's models have in common: the tower, and how many outputs become one."""
    v = _vision(c, defaults)
    channels = v.maybe("in_channels", v.maybe("in_chans", 3))
    elements = channels * v.maybe("temporal_patch_size", 2) * v.maybe("patch_size", patch) ** 2
    if not elements:
        v.problem("vision_config", "a patch of an image has at least one element")
    tower: Fields = {
        "name": "vision",
        "layers": v.whole("depth"),
        "heads": v.whole(heads),
        "vocab": 1,
        "max_positions": _MOST_PATCHES,
        "norm": "layernorm",
        "final_norm": False,
        "mlp": "plain",
        "positions": "rotary",
        "tied_embeddings": True,
        "encoder": {
            "token_types": 0,
            "pooler": False,
            "table": False,
            "patch_elements": elements,
            "patch_bias": False,
        },
    } | biases(True)
    return v, tower, v.maybe("spatial_merge_size", 2) ** 2


def qwen2_vl(c: Config, hidden: int) -> Fields:
    v, tower, joined = _qwen(c, "num_heads", {"depth": 32, "embed_dim": 1280, "num_heads": 16, "mlp_ratio": 4}, 14)
    width = v.whole("embed_dim")
    tower |= {"hidden": width, "intermediate": v.whole("mlp_ratio") * width}
    tower["activation"] = v.activation("silu", "hidden_act")
    projector = {"joined": joined, "inner": joined * width, "norm": "layernorm", "any_size": True}
    return {"tower": tower, "projector": projector}


def qwen2_5_vl(c: Config, hidden: int) -> Fields:
    """As Qwen2-VL, with windows of squares of patches, which are computed as windows of as many in a row."""
    sizes = {"depth": 32, "hidden_size": 3584, "num_heads": 16, "intermediate_size": 3420}
    v, tower, joined = _qwen(c, "num_heads", sizes, 14)
    width, layers = v.whole("hidden_size"), tower["layers"]
    full = v.data.get("fullatt_block_indexes") or [7, 15, 23, 31]
    if not isinstance(full, list):
        v.problem("fullatt_block_indexes", "expected a list of layers")
        full = []
    side = v.maybe("window_size", 112) // max(v.maybe("patch_size", 14), 1)
    tower |= {
        "hidden": width,
        "intermediate": v.whole("intermediate_size"),
        "norm": "rmsnorm",
        "mlp": "gated",
        "activation": v.activation("silu", "hidden_act"),
    }
    if side:
        tower |= {"window": side**2, "window_layers": tuple(layer not in full for layer in range(min(layers, 2**14)))}
    projector = {"joined": joined, "inner": joined * width, "norm": "rmsnorm", "any_size": True}
    return {"tower": tower, "projector": projector}


def qwen3_vl(c: Config, hidden: int) -> Fields:
    """A table of positions beside rotary ones, which have no cost, and outputs of several layers."""
    sizes = {"depth": 27, "hidden_size": 1152, "num_heads": 16, "intermediate_size": 4304}
    v, tower, joined = _qwen(c, "num_heads", sizes, 16)
    width, deep = v.whole("hidden_size"), v.data.get("deepstack_visual_indexes", [8, 16, 24])
    if not isinstance(deep, list):
        v.problem("deepstack_visual_indexes", "expected a list of layers")
        deep = []
    tower |= {
        "hidden": width,
        "intermediate": v.whole("intermediate_size"),
        "activation": v.activation("gelu", "hidden_act"),
        "positions": "learned",
        "max_positions": v.maybe("num_position_embeddings", 2304),
    }
    tower["encoder"] |= {"patch_bias": True}
    projector = {
        "joined": joined,
        "inner": joined * width,
        "norm": "layernorm",
        "deep": len(deep),
        "any_size": True,
    }
    return {"tower": tower, "projector": projector}


TOWERS: Mapping[str, Callable[[Config, int], Fields]] = {
    "gemma3": gemma3,
    "llava": llava,
    "qwen2_5_vl": qwen2_5_vl,
    "qwen2_vl": qwen2_vl,
    "qwen3_vl": qwen3_vl,
    "qwen3_vl_moe": qwen3_vl,
}
"""``model_type`` of several models to the reader of its tower and of what takes its outputs to the width of tokens."""
