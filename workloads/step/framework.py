"""A training framework as data: which kernels it fuses, what its host does, what it overlaps, what it keeps."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from archsim.spec import Count, Share, Spec

NotNegative = Annotated[float, Field(ge=0)]


class HostSpec(Spec):
    """Time of the host; it runs ahead of the GPU until something makes it wait."""

    forward_us: NotNegative
    """of a kernel of the forward pass"""
    backward_us: NotNegative
    """of a kernel of the backward pass"""
    collective_us: NotNegative = 0.0
    """of calling a collective"""
    rank_us: NotNegative = 0.0
    """more of a collective for each doubling of its ranks, since all wait for the latest host"""
    micro_batch_us: NotNegative = 0.0
    """of a pass of a micro-batch beside its kernels: fetching data, checkpoints, schedule"""
    step_us: NotNegative = 0.0
    """of a step beside its micro-batches: learning rate, overflow check, logging; nothing computes meanwhile"""
    parameter_us: NotNegative = 0.0
    """of each tensor of parameters in the optimizer"""


class LossSpec(Spec):
    """The loss over the logits."""

    forward_bytes: NotNegative
    """moved per logit going forward"""
    backward_bytes: NotNegative
    """moved per logit going backward"""
    forward_kernels: Count = 1
    backward_kernels: Count = 1
    stored_bytes: NotNegative = 4.0
    """kept per logit for the backward pass"""


class OptimizerSpec(Spec):
    """Adam over the parameters of a rank, as its kernels move them."""

    bytes: NotNegative
    """moved per parameter: gradients unscaled and normed, moments, main copy, copy back"""
    kernels: Count = 1
    """launched a step, beside those of each tensor"""
    state_bytes: NotNegative = 12.0
    """kept per parameter: main copy and two moments in FP32 (ZeRO, arXiv 1910.02054, section 3.1)"""


class FrameworkSpec(Spec):
    """What runs a step of training."""

    name: str
    """what it is called"""
    source: str
    """where its ways are documented, and on what its times were calibrated"""
    dtype: str = "bf16"
    """format of activations and products where nothing else is said"""
    recompute: Literal["none", "selective", "full"] = "none"
    """what is computed again where nothing else is said"""
    attention: Literal["flash", "unfused"] = "flash"
    """one kernel that stores no scores, or batched products with the softmax between them"""
    attention_library: str = "flash2"
    """whose, where it is one kernel"""
    products_time: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """time of products beside the library that kernels were calibrated on, such as of older releases; by instruction"""
    contention: Annotated[float, Field(ge=0, le=1)] = 0.0
    """share of the time of exchanges of parameters beside computing by which they hold that up"""
    softmax: Literal["fused", "eager"] = "fused"
    """of unfused attention: scale, mask and softmax in one kernel, or one after the other"""
    softmax_multiple: Count = 1
    """sequences times heads of a rank that the fused kernel takes are a multiple of this; else the eager ones run"""
    causal_flops: bool = True
    """whether published FLOPs count half of causal attention"""
    activation: Literal["fused", "eager"] = "fused"
    """bias and activation in one kernel, or kernels of single functions"""
    residual: Literal["fused", "eager"] = "fused"
    """bias, dropout and residual sum in one kernel, or one after the other"""
    outside: Annotated[float, Field(gt=0)] = 1.0
    """bytes of norms and residual sums beside what their least kernels move: casts, masks, kernels of parts"""
    copies: NotNegative = 0.0
    """copies of queries, keys and values into the layout of attention: passes over them that read and write"""
    dropout: Share | None = None
    """share of dropped elements; None: no dropout runs. Masks are kept, a byte each"""
    sequence_parallel: bool = False
    """tensor-parallel ranks share the tokens outside products too, where nothing else is said"""
    gradients: Literal["fused", "added", "written"] = "fused"
    """of weights: added to by the product, by a kernel of its own after it, or written as they are"""
    gradient_bytes: NotNegative = 4.0
    """of a gradient as it is kept"""
    reduced_bytes: NotNegative = 4.0
    """of a gradient as it is summed over replicas"""
    overlap_reduction: bool = False
    """gradients are summed while the last backward pass runs"""
    overlap_gather: bool = False
    """parameters that replicas share are gathered while the next forward pass runs"""
    overlap_tensor: Annotated[float, Field(ge=0, le=1)] = 0.0
    """share of tensor-parallel exchanges that run beside the products next to them"""
    overlap_experts: Annotated[float, Field(ge=0, le=1)] = 0.0
    """share of experts' exchanges that run beside other computing"""
    shards: Literal[0, 1, 2, 3] = 0
    """ZeRO stage where nothing else is said"""
    send_waits: bool = True
    """the host waits for the GPU when activations go to another stage, and the stage for them to arrive"""
    scatter_sends: bool = False
    """tensor-parallel ranks each send their part of activations to the next stage and gather them there"""
    vocabulary_multiple: Count = 1
    """vocabularies are padded to a multiple of this times the tensor-parallel ranks"""
    loss: LossSpec
    optimizer: OptimizerSpec | None = None
    """None: the measured step has no optimizer"""
    host: HostSpec
    quantise: bool = True
    """with products of 8 bits and less: activations are quantised by kernels of their own where no norm does it"""
    experts_time: Annotated[float, Field(gt=0)] = 1.0
    """time of experts' products beside one kernel with all their tokens in tiles"""
    experts_calls: Annotated[float, Field(gt=0)] = 1.0
    """calls of the host for each product of a rank's experts: splits, casts, views, one expert after the other"""
    experts_once: bool = False
    """whether a token that visits several experts of a node is sent there once"""
    experts_copies: NotNegative = 2.0
    """passes over the tokens of experts around each of their exchanges: sorting, weighing"""
