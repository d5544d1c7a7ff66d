"""What a run of a transformer says: model, phases, lengths, formats and how ranks share it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from archsim.config import Named
from archsim.errors import InputError
from archsim.spec import Count, Share, WorkloadSpec
from archsim.workloads.expert_placement import Packing
from archsim.workloads.mixture_of_experts import RoutingSpec
from archsim.workloads.model import ModelSpec
from archsim.workloads.op import (
    DType,
)
from archsim.workloads.operators import OperatorsSpec
from archsim.workloads.requests import RecordedLengths

Phase = Literal["prefill", "decode", "encode"]


class TransformerSpec(WorkloadSpec):
    """Inference of a transformer."""

    kind: Literal["transformer"] = "transformer"
    model: Annotated[ModelSpec, Named("models")]
    """a shipped model, a file of ours, or a Hugging Face config.json"""
    phases: tuple[Phase, ...] | None = None
    """what is run: prefill, decode or both (the default); an encoder has the one phase encode"""
    batch: Count = 1
    """sequences, over all data-parallel ranks"""
    input: Count | None = None
    """tokens of each prompt; of the context that is already cached when there is no prefill"""
    decoder_input: Count = 1
    """tokens with which the answer of a decoder that looks at an encoder begins; 'input' are the encoder's then"""
    images: Annotated[int, Field(ge=0, le=2**20)] = 0
    """of each prompt; their tokens are among those of 'input'. Without any the tower of the model is left out"""
    image_patches: Count | None = None
    """that the tower sees of an image, where it takes any size"""
    cached: Annotated[int, Field(ge=0, le=2**40)] = 0
    """tokens of each prompt whose keys and values are there from an earlier request: prefill computes the others"""
    cache_tier: str | None = None
    """memory from which prefill fetches what is cached, such as a pool shared by the machine; at hand when absent"""
    output: Count | None = None
    """tokens that each sequence gets from this run; all but the first token are decoded, one a step"""
    first_token: Literal["prefill", "decode"] | None = None
    """phase that gives the first token of an answer: prefill, so that N tokens take N - 1 decode steps, as vLLM,
    TensorRT-LLM and MLPerf count; decode where a source counts a step for each token; when absent prefill, and decode
    in a run of decode alone"""
    prefill_batch: Count | None = None
    """sequences of a rank that are prefilled together, one such group after another; all when absent"""
    mtp_acceptance: Share | None = None
    """decode with the model's multi-token prediction: each step checks one drafted token, of which this share
    is accepted, and drafts the next; without it when absent"""
    lengths: RecordedLengths | None = None
    """recorded prompt and answer lengths, in place of batch, input and output"""
    dtype: DType | Literal["auto"] = "auto"
    """format of weights, KV cache and activations; auto takes the widest of bf16, int8 and int4 in which they
    fit the memory (activations int8 at the narrowest). A KV cache that attention does not read, and activations of 4
    bits that nothing multiplies, are wider"""
    weight_dtype: DType | None = None
    """format of the weights, where it differs"""
    activation_dtype: DType | None = None
    """format of the activations, where it differs"""
    kv_dtype: DType | None = None
    """format of the KV cache, where it differs"""
    table_dtype: DType | None = None
    """format of embeddings, LM head and routers, where it differs from that of the weights"""
    expert_dtype: DType | None = None
    """format of the weights of routed experts, where it differs"""
    dispatch_dtype: DType | None = None
    """format in which tokens travel to their experts; that of the activations when absent"""
    expert_exchange: Literal["tokens", "gather"] = "tokens"
    """how they travel: each to the ranks of its experts and back (all-to-all), or all to all ranks, whose results are
    summed on the way back (all-gather, reduce-scatter)"""
    tensor_parallel: Count = 1
    """ranks that share each layer"""
    splits_vocabulary: bool = True
    """they share the tables and the LM head, too; else each has them whole (gpt-fast)"""
    expert_parallel: Count = 1
    """ranks that share the experts of a layer"""
    data_parallel: Count | None = None
    """replicas of the attention layers, each on tensor_parallel ranks with its part of the batch; expert_parallel by
    tensor_parallel when absent"""
    redundant_experts: Annotated[int, Field(ge=0, le=2**20)] = 0
    """further copies of the most visited experts of each layer, to even the load of expert-parallel ranks"""
    expert_placement: Packing | None = None
    """which ranks hold which experts: in order; greedy, heaviest first to the lightest rank; programme, the evenest
    by integer programming (needs the extra 'placement'); greedy with copies and in order without when absent"""
    shared_expert_copies: Annotated[int, Field(ge=0, le=2**20)] = 0
    """with expert parallelism: copies of the shared expert that stand among the routed ones, tokens dealt
    evenly over them; 0 puts it on every rank"""
    micro_batches: Literal[1, 2] = 1
    """with 2, each rank's sequences go through the layers of experts as two halves: in prefill one half computes
    while the other's tokens travel; in decoding attention of one (stream ``attention``) runs beside the experts of
    the other (stream ``experts``)"""
    prefill_attention: Literal["sequences", "heads"] = "sequences"
    """how expert-parallel ranks share latent attention in prefill: each its own sequences, or the tokens of all are
    gathered as latent vectors, each rank attends with its part of the heads, and outputs go back to their tokens"""
    routing: RoutingSpec = RoutingSpec()
    """how tokens are spread over experts"""
    operators: Annotated[OperatorsSpec | None, Named("operators")] = None
    """how a framework runs the model, kernel by kernel; as serving engines with fused kernels do when absent"""
    seed: Annotated[int, Field(ge=0, le=2**63)] = 0
    """of all random draws"""

    @model_validator(mode="after")
    def _check(self) -> TransformerSpec:
        model, phases = self.model, self.resolved_phases
        if not phases or len(set(phases)) != len(phases):
            raise ValueError("phases lists each phase once")
        if ("encode" in phases) != (model.encoder is not None) or ("encode" in phases and len(phases) > 1):
            raise ValueError(
                f"'{model.name}' is an encoder: its phase is encode"
                if model.encoder is not None
                else f"'{model.name}' is a decoder: its phases are prefill and decode"
            )
        self._check_encoded()
        self._check_images()
        if self.lengths is None:
            if self.input is None and not self.encoded:
                raise ValueError("'input' is missing: the tokens of a prompt")
            if self.output is None and "decode" in phases:
                raise ValueError("'output' is missing: the tokens of an answer")
            if phases == ("decode",) and self.decode_steps(self.output or 0) == 0:
                raise ValueError("an 'output' of one token is prefill's (first_token): there is nothing to decode")
            if self.cached and ("prefill" not in phases or self.cached >= (self.input or 0)):
                raise ValueError(
                    "'cached' tokens are fewer than those of a prompt ('input'), and need the phase prefill"
                )
        elif any(
            getattr(self, name) != type(self).model_fields[name].get_default()  # a resolved config says defaults, too
            for name in ("batch", "input", "cached", "output", "prefill_batch", "mtp_acceptance")
        ):
            raise ValueError(
                "lengths take the place of batch, prefill_batch, input, cached and output, and know no "
                "mtp_acceptance: give one or the other"
            )
        if self.cache_tier is not None and not self.cached:
            raise ValueError("cache_tier is where 'cached' tokens come from, and there are none")
        if self.mtp_acceptance is not None and not model.mtp_layers:
            raise ValueError(f"'{model.name}' has no multi-token prediction: leave mtp_acceptance out")
        if model.moe is None and (self.expert_parallel > 1 or self.redundant_experts):
            raise ValueError(f"'{model.name}' has no experts: expert_parallel is 1, redundant_experts 0")
        if (self.redundant_experts or self.shared_expert_copies) and self.expert_parallel == 1:
            raise ValueError(
                "redundant_experts and shared_expert_copies are for several ranks: expert_parallel is 1 here"
            )
        if self.micro_batches > 1 and (self.expert_parallel == 1 or self.tensor_parallel > 1):
            raise ValueError("micro_batches are for tokens that travel: expert_parallel above 1, tensor_parallel 1")
        if model.residual != "summed" and self.expert_parallel > self.tensor_parallel:
            raise ValueError(
                f"residual: {model.residual} is of ranks that sum: expert_parallel is tensor_parallel at most"
            )
        if self.prefill_attention == "heads" and (
            model.mla is None
            or model.mla.indexer is not None
            or self.tensor_parallel > 1
            or model.heads % self.expert_parallel
        ):
            raise ValueError(
                "prefill_attention: heads needs latent attention without indexer, tensor_parallel 1, and heads that "
                "divide among the expert_parallel ranks"
            )
        if self.shared_expert_copies and (
            self.tensor_parallel > 1
            or model.moe is None
            or model.moe.shared_intermediate != model.moe.expert_intermediate
        ):
            raise ValueError(
                "shared_expert_copies needs tensor_parallel 1 and one shared expert as wide as a routed one"
            )
        return self

    def _check_encoded(self) -> None:
        source = self.model.looks_at
        if source is None:
            if self.decoder_input != 1:
                raise ValueError(f"'{self.model.name}' looks at no encoder: leave decoder_input out")
            return
        if self.lengths is not None or self.cached or self.operators is not None:
            raise ValueError(
                f"'{self.model.name}' looks at an encoder: lengths, cached and operators are for decoders alone"
            )
        if source.encoder is not None and source.encoder.mel_bins and self.input not in (None, source.max_positions):
            raise ValueError(
                f"'{self.model.name}' always hears {source.max_positions} positions: leave 'input' out, and say with "
                "decoder_input how many tokens its answer begins with"
            )

    def _check_images(self) -> None:
        tower, how = self.model.tower, self.model.projector
        if not self.images:
            if self.image_patches is not None:
                raise ValueError("image_patches are of images, and there are none")
            return
        if tower is None or how is None:
            raise ValueError(f"'{self.model.name}' has no tower of images: leave images out")
        if self.lengths is not None or "prefill" not in self.resolved_phases or self.operators is not None:
            raise ValueError("images are of prompts of equal lengths in prefill, without operators")
        if how.any_size != (self.image_patches is not None):
            raise ValueError(
                "image_patches is missing: the tower takes images of any size"
                if how.any_size
                else f"the tower sees {tower.max_positions} positions of each image: leave image_patches out"
            )
        if (self.patches - how.dropped) % (how.joined * how.averaged):
            raise ValueError(f"{self.patches} patches of an image are no multiple of {how.joined * how.averaged}")
        if self.input is not None and self.images * self.image_tokens > self.input:
            raise ValueError(f"{self.images} images of {self.image_tokens} tokens are more than 'input' {self.input}")

    @property
    def patches(self) -> int:
        """What the tower sees of an image, a class token included."""
        return self.image_patches or (0 if self.model.tower is None else self.model.tower.max_positions)

    @property
    def image_tokens(self) -> int:
        """Tokens that an image is in the prompt."""
        how = self.model.projector
        return 0 if how is None else (self.patches - how.dropped) // (how.joined * how.averaged)

    @property
    def encoded(self) -> int:
        """Tokens of the encoder that the decoder looks at; 0: there is none, or they are not told."""
        source = self.model.looks_at
        if source is None:
            return 0
        return source.max_positions if source.encoder is not None and source.encoder.mel_bins else self.input or 0

    @property
    def prompt(self) -> int:
        """Tokens of each prompt of the decoder."""
        return self.decoder_input if self.model.looks_at is not None else self.input or 1

    def decode_steps(self, output: int) -> int:
        """Steps in which a sequence gets its answer of ``output`` tokens, those of multi-token prediction apart."""
        by_prefill = "prefill" in self.resolved_phases if self.first_token is None else self.first_token == "prefill"
        return max(output - by_prefill, 0)

    @property
    def resolved_phases(self) -> tuple[Phase, ...]:
        """The phases that are run, in the order of time."""
        if self.phases is None:
            return ("encode",) if self.model.encoder is not None else ("prefill", "decode")
        return tuple(sorted(self.phases, key=("prefill", "decode", "encode").index))

    @property
    def replicas(self) -> int:
        """Data-parallel ranks."""
        if self.data_parallel is not None:
            return self.data_parallel
        return max(self.expert_parallel // self.tensor_parallel, 1)


def check_parallel(spec: TransformerSpec) -> None:
    """Complain of a split that leaves a remainder."""
    model, tp, ep, dp = spec.model, spec.tensor_parallel, spec.expert_parallel, spec.replicas
    splits = {"heads": model.heads}
    if model.dense_layers:
        splits["intermediate"] = model.intermediate
    if model.recurrent is not None:
        splits["heads of recurrent layers"] = model.recurrent.heads
    if model.moe is not None:
        if ep == 1:
            splits["expert_intermediate"] = model.moe.expert_intermediate
        if model.moe.shared_intermediate:
            splits["shared_intermediate"] = model.moe.shared_intermediate
    if model.looks_at is not None:
        splits |= {"heads of the encoder": model.looks_at.heads, "its intermediate": model.looks_at.intermediate}
    if spec.images and model.tower is not None:
        splits |= {"heads of the tower": model.tower.heads, "its intermediate": model.tower.intermediate}
    for what, size in splits.items():
        if size % tp:
            raise InputError(f"{what} {size} of '{model.name}' does not divide among tensor_parallel {tp} ranks")
    if model.mla is None and model.kv_heads % tp and tp % model.kv_heads:
        raise InputError(
            f"kv_heads {model.kv_heads} of '{model.name}' neither divide among tensor_parallel "
            f"{tp} ranks nor repeat evenly on them"
        )
    if ep > 1 and ep % tp:
        raise InputError(
            f"expert_parallel {ep} is neither 1 nor a multiple of tensor_parallel: {tp} ranks of a replica of attention"
        )
    if ep > 1 and dp % (ep // tp):
        raise InputError(
            f"data_parallel {dp} must be a multiple of {ep // tp}, expert_parallel {ep} by tensor_parallel {tp}: every "
            "replica of attention in an expert-parallel group has sequences of its own"
        )
    if spec.lengths is not None and dp > 1:
        raise InputError(f"recorded lengths are those of one replica: data_parallel is {dp}, must be 1")
    if spec.lengths is None and spec.batch % dp:
        raise InputError(f"batch {spec.batch} does not divide among data_parallel {dp} ranks")
