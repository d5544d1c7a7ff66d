"""How a serving engine is set: its scheduler, its cache, and the time of its host."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from archsim import registry
from archsim.spec import Count, Share, Spec
from archsim.units import Bytes, Picoseconds
from archsim.workloads.alignment import AlignmentSpec
from archsim.workloads.op import DType
from archsim.workloads.policies import GROUP
from archsim.workloads.scheduler import Limits, Policy
from archsim.workloads.sequences import PLAIN, Speculation
from archsim.workloads.shape import Shape


class HostSpec(Spec):
    """Time of an engine's host that a GPU waits for: what it schedules, samples and sends beside computing."""

    step: Picoseconds = 0
    """of an iteration"""
    rank: Picoseconds = 0
    """of an iteration, for each further rank of the group"""
    sequence: Picoseconds = 0
    """of an iteration, for each of its sequences"""
    launch: Picoseconds = 0
    """of a kernel in an iteration with prompts, which is no captured graph; the host launches ahead of the chip"""
    state_kernels: Annotated[int, Field(ge=0, le=1000)] = 0
    """kernels that a gated delta rule has there beside its op: convolutions, gates, parts of a chunk"""
    graphs: bool = True
    """iterations of decoding are captured graphs; else the host launches their kernels, too (vLLM's enforce_eager)"""
    graph_tokens: Annotated[int, Field(ge=0, le=2**20)] = 0
    """up to so many tokens iterations are captured graphs, with prompts or without"""
    intake: Picoseconds = 0
    """of a request before the next one is taken in: a front end does one after the other"""
    token: Picoseconds = 0
    """the same of a token of its prompt: tokenising"""
    request: Picoseconds = 0
    """from a request's arrival until the scheduler sees it, and of its first token on the way back"""
    source: str = ""
    """on what it was calibrated"""

    def ps(self, shape: Shape, ranks: int) -> int:
        """Of an iteration."""
        return self.step + self.rank * (ranks - 1) + self.sequence * shape.sequences


class SpeculationSpec(Spec):
    """Tokens drafted ahead and checked together."""

    tokens: Annotated[int, Field(ge=1, le=64)]
    """that are drafted for a step"""
    acceptance: Annotated[float, Field(ge=0, le=1)]
    """how often a draft is right where the one before it is"""
    draft: Literal["layer", "lookup"] = "layer"
    """by what: a layer as the model's last with the LM head after it (multi-token prediction, EAGLE), or looking up
    what came before, which takes no time of the chip"""


class UntunedSpec(Spec):
    """Kernels of experts where experts are spread over ranks, in sizes that an engine has no tuned tiles for."""

    plain: Annotated[float, Field(ge=1, le=10)] = 1.0
    """how much longer those of weights in 16 bits take than tuned ones, where there are more tokens than experts of a
    rank"""
    blocks: Annotated[float, Field(ge=1, le=10)] = 1.0
    """the same of weights with a scale for each block, for any number of tokens"""
    source: str
    """which rule, and on what it was calibrated"""


class AroundSpec(Spec):
    """Time of the small kernels that stand around an op, of a layer in an iteration."""

    states: Picoseconds = 0
    """around a gated delta rule: convolutions, gates, norms, and how states are found"""
    widened: Picoseconds = 0
    """before experts whose weights of 4 bits are widened to 16: sorting tokens by experts, gathering them"""
    source: str
    """on what they were calibrated"""


class ExpertsSpec(Spec):
    """Kernels of experts that stream weights, which are taken where they are faster than the chip's library's."""

    formats: tuple[DType, ...]
    """of weights and tokens both; weights that are widened as they are read have no such kernels"""
    memory: Share
    """of the memory's rate that they reach"""
    start: Picoseconds = 0
    """until they do: routing and sorting, start and end of a product"""
    visits: Annotated[float, Field(gt=0)]
    """tokens of an expert on average, up to which they are taken"""
    source: str
    """on what they were calibrated"""


class WideningSpec(Spec):
    """Kernels of experts that widen weights as they read them."""

    formats: tuple[DType, ...]
    """of the weights"""
    cycles: Annotated[float, Field(ge=0, le=100)]
    """of an SM per 1,024 multiply-adds, beside what a kernel of the wider format takes"""
    source: str
    """on what they were calibrated"""


def _registered(policy: str) -> str:
    """The name of a policy."""
    registry.find(GROUP, policy)
    return policy


class EngineSpec(Spec):
    """A serving engine."""

    name: str = "engine"
    """what it is called"""
    policy: Annotated[str, AfterValidator(_registered)] = "prompts_first"
    """prompts_first: prompts by themselves, before answers go on; chunked: chunks of prompts beside answers; beside:
    whole prompts beside answers; or one of another package"""
    max_num_seqs: Count = 256
    """sequences that run at a time"""
    max_num_batched_tokens: Count = 8192
    """new tokens of an iteration at most"""
    chunk: Count | None = None
    """tokens of prompts in an iteration at most; with prompts_first, prompts are cut into such chunks, else they are
    computed whole"""
    reserves: bool = True
    """blocks of the cache are taken for the whole answer when a request is admitted; else as they are needed, and who
    came last is preempted and begins again when there are none"""
    prefix_cache: bool = False
    """blocks of the cache are found again by what they hold"""
    preemption: Literal["recompute", "swap"] = "recompute"
    """who loses its cache computes it again, or has it moved to ``kv_tier`` and back while that has room"""
    kv_tier: str | None = None
    """farther memory of the chip, such as its host's, to which blocks of the cache go that there is no room for, and
    from which they are fetched when they are found again"""
    kv_tier_bytes: Bytes = 4 * 2**30
    """of that memory for the cache of a rank; vLLM's ``swap_space`` is 4 GiB a GPU"""
    memory_share: Share = 0.9
    """part of the memory that weights, activations and KV cache fill, as vLLM's gpu_memory_utilization"""
    beside: Bytes = 0
    """memory of a rank beside weights, activations and KV cache: the context of its driver and libraries"""
    sampling_bytes: Annotated[int, Field(ge=0, le=2**10)] = 0
    """of a logit, of as many sequences as run at most, while tokens are picked"""
    kv_blocks: Annotated[int, Field(ge=1, le=2**40)] | None = None
    """blocks of the KV cache of 16 tokens, where an engine reported them; what fits when absent"""
    speculation: SpeculationSpec | None = None
    """tokens drafted ahead and checked together; one token a step when absent"""
    sampling_ops: Annotated[int, Field(ge=0, le=2**20)] = 0
    """operations of a lane that picking a token takes for each logit: sorts for top-k and top-p"""
    prompt_state_ops: Annotated[int, Field(ge=0, le=2**40)] = 0
    """operations of a lane that a Mamba-2 layer takes in an iteration with prompts, however long they are, beside what
    it computes"""
    untuned: UntunedSpec | None = None
    """kernels of experts that it has not tuned; all are when absent"""
    around: AroundSpec | None = None
    """small kernels around some ops; none when absent"""
    experts: ExpertsSpec | None = None
    """kernels of experts of its own; those of the chip's library alone when absent"""
    widening: WideningSpec | None = None
    """what kernels of experts take to widen weights; as long as without when absent"""
    fuses_shared: bool = False
    """experts that all tokens visit are one more expert of the same kernels, or run beside them"""
    expert_exchange: Literal["tokens", "gather"] = "tokens"
    """how tokens travel where replicas of attention share experts: each to its experts and back, or all to all ranks,
    whose results are summed on the way back"""
    fuses_norms: Literal["none", "attention", "all"] = "none"
    """norms that are the end of the all-reduce before them: those after attention's, or those after the MLP's, too"""
    weave_tokens: Annotated[int, Field(ge=0, le=2**30)] = 0
    """from so many tokens on an iteration of tensor-parallel ranks is computed as two halves, and sums over ranks of
    one pass while the other is computed (TokenWeave, arXiv 2505.11329); 0: none is"""
    collectives: tuple[str, ...] = ()
    """libraries of its collectives, by names of ``configs/collectives/gpu_libraries.yaml``, the first one that has one;
    as the links have them on chips that are not there"""
    collective_launch: Picoseconds | None = None
    """time to start a collective of its own kernels on those, where it differs from the network's"""
    host: HostSpec = HostSpec()
    """time of its host"""
    looks: Count = 1
    """steps of decoding from one look for new requests to the next (SGLang's ``scheduler-recv-interval``)"""
    ahead: bool = False
    """an iteration is chosen when the one before it begins (an overlap scheduler), and takes nobody who came later"""
    aligns: AlignmentSpec | None = None
    """prompts of replicas of attention wait for each other; none waits when absent"""
    in_turn: bool = False
    """replicas of attention get requests in turn; else the one that has fewest"""
    source: str = ""
    """where the settings are written"""

    @model_validator(mode="after")
    def _check(self) -> EngineSpec:
        if self.preemption == "swap" and (self.kv_tier is None or self.reserves):
            lacks = "a kv_tier" if self.kv_tier is None else "reserves: false, else nobody is preempted"
            raise ValueError(f"preemption: swap needs {lacks}")
        tokens = self.max_num_seqs * self.speculative().queries
        if tokens > self.max_num_batched_tokens:
            drafts = "" if self.speculation is None else f" of {self.speculative().queries} tokens each"
            raise ValueError(
                f"max_num_seqs {self.max_num_seqs} sequences{drafts} decode together, more than "
                f"max_num_batched_tokens {self.max_num_batched_tokens}"
            )
        return self

    @property
    def whole_prompts(self) -> bool:
        """Whether a prompt is computed in one iteration."""
        return self.scheduling().whole

    def speculative(self) -> Speculation:
        """How its sequences decode."""
        told = self.speculation
        return PLAIN if told is None else Speculation.of(told.tokens, told.acceptance)

    @property
    def drafting_layers(self) -> int:
        """Layers that draft beside the model's."""
        return int(self.speculation is not None and self.speculation.draft == "layer")

    def scheduling(self) -> Policy:
        """Its policy."""
        policy: Policy = registry.find(GROUP, self.policy)(self.chunk)
        return policy

    def limits(self, blocks: int, tier: int = 0) -> Limits:
        """What it holds, with so many blocks, and so many in the farther memory."""
        blocks = self.kv_blocks or blocks
        return Limits(
            self.max_num_seqs,
            self.max_num_batched_tokens,
            blocks,
            self.reserves,
            self.prefix_cache,
            self.speculative(),
            tier,
            self.preemption == "swap",
        )
