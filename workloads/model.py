"""A transformer as its shape: widths, heads, experts; and what that shape weighs.

The fields say what a Hugging Face ``config.json`` says, in one vocabulary for all families. A mapping that
*is* such a ``config.json`` is understood as well (:mod:`archsim.workloads.huggingface.reader`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, model_validator

from archsim.errors import InputError
from archsim.spec import Count, Spec
from archsim.workloads.disentangled_attention import DisentangledSpec
from archsim.workloads.huggingface.reader import from_config_json, is_config_json
from archsim.workloads.quantization import QuantizationSpec
from archsim.workloads.recurrence import RecurrentSpec

Whole = Annotated[int, Field(ge=0, le=2**40, strict=True)]
"""A number of things, possibly none."""


class MixtureSpec(Spec):
    """Mixture of experts in place of the MLP of a layer."""

    experts: Annotated[Count, Field(le=2**16)]
    """routed experts of a layer"""
    experts_per_token: Count
    """routed experts that a token visits"""
    expert_intermediate: Count
    """inner width of a routed expert"""
    shared_experts: Whole = 0
    """experts that every token visits; they are computed as one MLP"""
    shared_intermediate: Whole = 0
    """inner width of all shared experts together; shared_experts x expert_intermediate when absent"""
    shared_gate: bool = False
    """the shared experts' output is scaled by a sigmoid of one learned column (Qwen)"""
    first_dense_layers: Whole = 0
    """layers at the bottom that have the plain MLP instead"""
    every: Count = 1
    """above these, each so-many-th layer of the model has experts, the others the plain MLP (Llama 4 Maverick: 2)"""
    expert_bias: bool = False
    """routed experts have biases (gpt-oss)"""
    gate_bias: bool = False
    """the router's product has a bias (gpt-oss)"""
    router_bias: bool = False
    """one correction per expert is added to the router's scores (DeepSeek-V3)"""
    normalise_weights: bool = True
    """the weights of a token's experts are scaled to sum to one"""

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, data: Any) -> Any:
        if isinstance(data, dict) and "shared_intermediate" not in data:
            shared, width = data.get("shared_experts", 0), data.get("expert_intermediate", 0)
            if isinstance(shared, int) and isinstance(width, int):
                return data | {"shared_intermediate": shared * width}
        return data

    @model_validator(mode="after")
    def _check(self) -> MixtureSpec:
        if self.experts_per_token > self.experts:
            raise ValueError(f"a token cannot visit {self.experts_per_token} of {self.experts} experts")
        if (self.shared_experts == 0) != (self.shared_intermediate == 0):
            raise ValueError("shared_experts and shared_intermediate are either both zero or both more")
        return self


class IndexerSpec(Spec):
    """What chooses the keys that a query sees (DeepSeek-V3.2)."""

    heads: Count
    """small query heads of a token"""
    head_dim: Count
    """width of such a head, and of the one key that the cache holds of a token"""
    top_k: Count
    """keys that a query sees at most"""

    def parameters(self, hidden: int, q_lora_rank: int) -> int:
        """Of a layer: queries, key and its norm, weights of heads."""
        return q_lora_rank * self.heads * self.head_dim + hidden * (self.head_dim + self.heads) + 2 * self.head_dim


class LatentAttentionSpec(Spec):
    """Multi-head latent attention (DeepSeek-V2): keys and values of a token are one compressed vector."""

    q_lora_rank: Count | None = None
    """width of the compressed query; None when queries are projected directly"""
    kv_lora_rank: Count
    """width of the compressed key and value"""
    qk_nope_head_dim: Count
    """width of the part of a query and key head without position"""
    qk_rope_head_dim: Count
    """width of the rotary part, shared by all heads"""
    v_head_dim: Count
    """width of a value head"""
    indexer: IndexerSpec | None = None
    """present where each query sees chosen keys alone; queries are compressed then"""

    @model_validator(mode="after")
    def _check(self) -> LatentAttentionSpec:
        if self.indexer is not None and self.q_lora_rank is None:
            raise ValueError("an indexer reads the compressed query: say q_lora_rank")
        return self

    @property
    def qk_head_dim(self) -> int:
        """Width of a whole query or key head."""
        return self.qk_nope_head_dim + self.qk_rope_head_dim

    @property
    def cached(self) -> int:
        """Elements of the latent vector of a token."""
        return self.kv_lora_rank + self.qk_rope_head_dim

    @property
    def kv_elements(self) -> int:
        """Elements that the KV cache holds per token and layer."""
        return self.cached + (0 if self.indexer is None else self.indexer.head_dim)


class EncoderSpec(Spec):
    """What an encoder (BERT, ViT) has and a decoder has not; its attention is not causal, it has no LM head."""

    token_types: Whole = 2
    """rows of the segment embedding"""
    pooler: bool = True
    """a dense layer with tanh on the first token"""
    patch_elements: Whole = 0
    """of an image: elements of a patch (ViT-L/16: 16 x 16 x 3), projected to the tokens after the first; its table of
    one row, ``vocab: 1``, is the class token, and without a table there is none"""
    patch_bias: bool = True
    """their projection has a bias (CLIP: not)"""
    attention_pool: bool = False
    """one learned query attends to the outputs, with an MLP after it (SigLIP)"""
    classes: Whole = 0
    """outputs of a linear classifier on the first token"""
    table: bool = True
    """false: its tokens are rows of the decoder's table (T5, BART), or it has none (Whisper, SigLIP)"""
    disentangled: DisentangledSpec | None = None
    """present where positions have queries and keys of their own (DeBERTa)"""
    mel_bins: Whole = 0
    """of a spectrogram, of which two convolutions over three frames, the second with stride two, make the tokens: as
    many as it has positions, always (Whisper)"""


class ProjectorSpec(Spec):
    """What takes the outputs of a tower of images to tokens of a prompt."""

    dropped: Whole = 0
    """outputs of an image that are no tokens: the class token (LLaVA)"""
    joined: Count = 1
    """outputs, side by side, that become one (Qwen2-VL: 4)"""
    averaged: Count = 1
    """outputs whose mean becomes one (Gemma 3: 16)"""
    norm: Literal["none", "rmsnorm", "layernorm"] = "none"
    """of each output, before"""
    inner: Whole = 0
    """inner width of its MLP; 0: it is one product"""
    bias: bool = True
    deep: Whole = 0
    """more of them, for outputs of other layers, whose norm is of what is joined (Qwen3-VL: 3)"""
    any_size: bool = False
    """the tower takes images of any size"""

    @property
    def norm_vectors(self) -> int:
        """Learned vectors of its norm."""
        return {"none": 0, "rmsnorm": 1, "layernorm": 2}[self.norm]

    def parameters(self, width: int, hidden: int) -> int:
        """Of all of them, from outputs of a width to tokens of another."""
        joined, norms = self.joined * width, self.norm_vectors * width
        inner = (joined + self.bias) * self.inner if self.inner else 0
        each = inner + ((self.inner or joined) + self.bias) * hidden
        return each * (1 + self.deep) + norms * (1 + self.deep * self.joined)


Mixing = Literal["attention", "recurrent", "attention_alone", "recurrent_alone"]


class LayerKind(NamedTuple):
    """What a layer is made of: what mixes its tokens, attention with a window or without or a recurrence, and whether
    an MLP or experts come after it."""

    window: int | None
    recurrent: bool = False
    mlp: bool = True


class ModelSpec(Spec):
    """The shape of a transformer."""

    name: str
    """what the model is called"""
    hidden: Count
    """width of the residual stream"""
    layers: Count
    """transformer layers"""
    heads: Count
    """query heads of a layer"""
    kv_heads: Count
    """key and value heads of a layer; as many as query heads when absent"""
    head_dim: Count
    """width of a head; hidden / heads when absent"""
    intermediate: Count
    """inner width of the MLP (of the dense layers of a mixture of experts)"""
    vocab: Count
    """tokens of the vocabulary"""
    max_positions: Count
    """longest sequence the model was made for"""
    norm: Literal["rmsnorm", "layernorm"] = "rmsnorm"
    """rmsnorm has a gain per element, layernorm a gain and a bias"""
    norm_vectors: Annotated[int, Field(ge=0, le=2, strict=True)] | None = None
    """learned vectors of a norm, gain and bias, where they are fewer than its kind has (MPT: 1, OLMo: 0)"""
    norm_position: Literal["pre", "post", "sandwich", "output"] = "pre"
    """before attention and MLP, after the residual sum (BERT, OPT-350m), before and after (Gemma 2), or on the outputs
    of attention and MLP alone (OLMo 2)"""
    final_norm: bool = True
    """a norm after the last layer"""
    embedding_norm: bool = False
    """a norm right after the embedding (BERT)"""
    qk_norm: Literal["none", "head", "full"] = "none"
    """rmsnorm of queries and keys: one gain for every head (Qwen 3) or one per element (OLMoE)"""
    mlp: Literal["gated", "plain"] = "gated"
    """gated: down(act(gate(x)) * up(x)); plain: down(act(up(x)))"""
    activation: Literal["silu", "gelu", "relu"] = "silu"
    positions: Literal["rotary", "learned", "none"] = "rotary"
    position_offset: Whole = 0
    """rows of a learned position table beyond max_positions (OPT: 2)"""
    distance_buckets: Whole = 0
    """distances for which each head has a learned number, added to its scores in all layers (T5: 32)"""
    tied_embeddings: bool = False
    """the LM head is the embedding table"""
    qkv_bias: bool = False
    key_bias: bool = True
    """where queries and values have biases keys have, too (Whisper: not)"""
    out_bias: bool = False
    mlp_bias: bool = False
    lm_head_bias: bool = False
    window: Count | None = None
    """positions a query looks back at most, its own included; None for all"""
    window_layers: Literal["all", "alternate"] | Annotated[tuple[bool, ...], Field(min_length=1)] = "all"
    """layers that have the window: all, every other one, the first included (Gemma 2), or a pattern that is repeated
    over the layers (Gemma 3: five that have it, one that has not)"""
    recurrent: RecurrentSpec | None = None
    """present where some layers keep a state of fixed size instead of keys and values"""
    mixing: Annotated[tuple[Mixing, ...], Field(min_length=1)] = ("attention",)
    """what mixes the tokens of a layer, a pattern that is repeated over the layers (Qwen 3.5: three that are recurrent,
    one with attention); ``_alone``: no MLP comes after it (Nemotron-H)"""
    output_gate: bool = False
    """attention's output is scaled by a sigmoid that is projected beside the queries (Qwen 3.5)"""
    sinks: bool = False
    """each head has a learned logit beside those of its keys (gpt-oss)"""
    parallel_attention: bool = False
    """attention and MLP both read the input of the layer and their outputs are summed (PaLM, GPT-NeoX)"""
    residual: Literal["summed", "ladder", "apart"] = "summed"
    """what attention and MLP read: all outputs before them, summed over tensor-parallel ranks; all but the one just
    before, whose sum passes meanwhile (ladder: arXiv 2501.06589); or each rank its own outputs, never summed (apart)"""
    parallel_norms: bool = False
    """with parallel_attention: attention and MLP have a norm each (GPT-NeoX), not one together (PaLM)"""
    embedding_width: Count | None = None
    """width of the embedding table when it differs from hidden and is projected in and out (OPT-350m)"""
    encoder: EncoderSpec | None = None
    """present for an encoder"""
    looks_at: ModelSpec | None = None
    """the encoder whose outputs each layer of this decoder attends to between its attention and its MLP"""
    tower: ModelSpec | None = None
    """the encoder whose outputs are the tokens of an image"""
    projector: ProjectorSpec | None = None
    """present with a tower"""
    moe: MixtureSpec | None = None
    """present for a mixture of experts"""
    mla: LatentAttentionSpec | None = None
    """present for latent attention; kv_heads and head_dim are then not used"""
    mtp_layers: Whole = 0
    """multi-token prediction layers published with the model (DeepSeek-V3); not part of its main count"""
    quantization: QuantizationSpec | None = None
    """how the model's file stores the weights of its layers; in the workload's weight_dtype when absent"""
    notes: tuple[str, ...] = ()
    """what of the published model is left out or taken otherwise; said with every run"""
    source: str = ""
    """where the shape is printed, and how sure it is"""

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        if is_config_json(data):
            # Keys of ours beside theirs win, so that an override such as model.layers=4 holds.
            ours = {key: data[key] for key in cls.model_fields if key != "head_dim" and data.get(key) is not None}
            try:
                data = from_config_json(data) | ours
            except InputError as error:
                raise ValueError("; ".join(str(problem) for problem in error.problems)) from None
        filled = dict(data)
        if isinstance(heads := data.get("heads"), int) and heads > 0:
            filled.setdefault("kv_heads", heads)
            hidden = data.get("hidden")
            if "head_dim" not in data and isinstance(hidden, int):
                if hidden % heads:
                    raise ValueError(f"hidden {hidden} is no multiple of {heads} heads: say head_dim")
                filled["head_dim"] = hidden // heads
        return filled

    @model_validator(mode="after")
    def _check(self) -> ModelSpec:
        if self.heads % self.kv_heads:
            raise ValueError(f"heads ({self.heads}) must be a multiple of kv_heads ({self.kv_heads})")
        if self.moe is not None:
            if self.moe.first_dense_layers > self.layers:
                raise ValueError(f"first_dense_layers ({self.moe.first_dense_layers}) exceeds layers ({self.layers})")
            if self.mlp_bias:
                raise ValueError("mlp_bias: a mixture of experts has expert_bias instead")
            if self.parallel_attention or self.norm_position == "post":
                raise ValueError("a mixture of experts has its norms before attention and experts, or on their outputs")
        if self.mla is not None and (self.qkv_bias or self.out_bias or self.qk_norm != "none" or self.window):
            raise ValueError("latent attention has no biases, no qk_norm and no window")
        if self.parallel_attention and self.norm_position != "pre":
            raise ValueError("parallel_attention needs norm_position: pre")
        if self.residual == "ladder" and (
            self.norm_position != "pre" or self.parallel_attention or self.looks_at or len(set(self.mixing)) > 1
        ):
            raise ValueError("residual: ladder is of layers of attention and MLP with norms before each")
        if self.residual == "ladder" and self.moe is not None and (self.moe.every > 1 or self.moe.first_dense_layers):
            raise ValueError("residual: ladder is of layers that are alike")
        if self.parallel_norms and not self.parallel_attention:
            raise ValueError("parallel_norms goes with parallel_attention")
        if self.mtp_layers and (self.moe is None or self.mla is None):
            raise ValueError("mtp_layers are those of DeepSeek-V3: they need moe and mla")
        if (self.tower is None) != (self.projector is None) or (self.tower is not None and not self.tower.encoder):
            raise ValueError("tower is an encoder, and goes with a projector")
        if (source := self.looks_at) is not None:
            if source.encoder is None or source.looks_at is not None or self.encoder is not None:
                raise ValueError("looks_at is an encoder, and what looks at it a decoder")
            if self.mla or self.window or self.parallel_attention or self.qk_norm != "none":
                raise ValueError("a decoder that looks at an encoder has plain attention, then an MLP or experts")
        kinds = {kind.partition("_")[0] for kind in self.mixing}
        if (self.recurrent is not None) != ("recurrent" in kinds):
            raise ValueError("recurrent and layers of that kind in 'mixing' go together")
        if kinds == {"recurrent"}:
            raise ValueError("mixing: some layers have attention")
        if self.mixing != ("attention",) and (self.window or self.mla or self.encoder or self.parallel_attention):
            raise ValueError("mixing goes with neither windows, latent attention, encoders nor parallel_attention")
        if self.output_gate and self.mla is not None:
            raise ValueError("latent attention has no output_gate")
        if self.moe is not None and any(kind.endswith("_alone") for kind in self.mixing):
            raise ValueError("a mixture of experts comes after each layer's attention")
        return self

    def sparse(self, layer: int) -> bool:
        """Whether a layer has experts."""
        moe = self.moe
        return moe is not None and layer >= moe.first_dense_layers and (layer + 1) % moe.every == 0

    @property
    def dense_layers(self) -> int:
        """Layers with a plain MLP."""
        moe = self.moe
        if moe is None:
            return self.layers
        return self.layers - (self.layers // moe.every - moe.first_dense_layers // moe.every)

    @property
    def kinds(self) -> tuple[LayerKind, ...]:
        """What each layer is made of, a pattern that is repeated over the layers."""
        if self.mixing == ("attention",):
            return tuple(LayerKind(window) for window in self.windows)
        each = (kind.partition("_") for kind in self.mixing)
        return tuple(LayerKind(None, what == "recurrent", not alone) for what, alone, _ in each)

    def kind(self, layer: int) -> LayerKind:
        """What a layer is made of."""
        kinds = self.kinds
        return kinds[layer % len(kinds)]

    @property
    def recurrent_layers(self) -> int:
        """Layers that keep a state instead of keys and values."""
        return sum(self.kind(layer).recurrent for layer in range(self.layers)) if self.recurrent is not None else 0

    @property
    def windows(self) -> tuple[int | None, ...]:
        """The window of each layer, a pattern that is repeated over the layers."""
        known = {"all": (True,), "alternate": (True, False)}
        pattern = known[self.window_layers] if isinstance(self.window_layers, str) else self.window_layers
        return (None,) if self.window is None else tuple(self.window if has else None for has in pattern)

    def windowed(self, layers: int) -> int:
        """How many of the first so many layers have a window."""
        windows = self.windows
        whole, rest = divmod(layers, len(windows))
        return whole * _present(windows) + _present(windows[:rest])

    @property
    def kv_elements(self) -> int:
        """Elements that the KV cache holds per token and layer."""
        return self.mla.kv_elements if self.mla is not None else 2 * self.kv_heads * self.head_dim

    @property
    def mlp_matrices(self) -> int:
        """Matrices [hidden, inner] of an MLP: gate, up, down or up, down."""
        return 3 if self.mlp == "gated" else 2


def language_model(model: ModelSpec) -> ModelSpec:
    """A decoder by itself, without a tower of images.

    Raises
    ------
    InputError: it looks at an encoder.
    """
    if model.looks_at is not None:
        raise InputError(f"'{model.name}' looks at an encoder: such models are run, neither trained nor served so far")
    return model if model.tower is None else model.model_copy(update={"tower": None, "projector": None})


def _present(windows: tuple[int | None, ...]) -> int:
    return sum(window is not None for window in windows)
