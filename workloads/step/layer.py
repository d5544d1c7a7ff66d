"""The kernels of a transformer's layers, forward and backward, on one rank of a cut.

Shapes are those of the products that run: a linear layer [tokens, k] x [k, n] forward, [tokens, n] x [n, k] for the
gradient of its input, [n, tokens] x [tokens, k] for that of its weights. What stands between products is counted by
the bytes that its kernels read and write. Tensor-parallel ranks sum what row-split layers give (Megatron-LM, arXiv
1909.08053), or scatter and gather it along the sequence (arXiv 2205.05198).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from archsim.workloads.model import ModelSpec
from archsim.workloads.step.cut import Cut
from archsim.workloads.step.framework import FrameworkSpec
from archsim.workloads.step.kinds import HybridSpec, Kind, StateSpaceSpec
from archsim.workloads.step.work import Exchange, Flash, Kernel, Kernels, Product, Rows

NARROW = {"fp8": 1.0, "mxfp8": 1.03125, "nvfp4": 0.5625}
"""Bytes of an element of formats below 16 bits, their scales included."""
_HALF = {"bf16", "fp16"}


def element_bytes(dtype: str) -> int:
    """Of activations outside the products of a format."""
    return 4 if dtype in ("fp32", "tf32") else 2


def plain(dtype: str) -> str:
    """The format of products that stay wide beside those of a narrow one."""
    return "bf16" if dtype in NARROW else dtype


@dataclass(frozen=True)
class Linear:
    """A linear layer on a rank: [tokens, k] x [k, n], of each of ``groups`` experts.

    Attributes
    ----------
    cast: its input is not written in the narrow format by the function before it. narrow: it multiplies the narrow
    format of the step. bias: a vector of n is added.
    """

    name: str
    tokens: int
    k: int
    n: int
    bias: bool = False
    groups: int = 1
    cast: bool = True
    narrow: bool = True
    trained: bool = True

    @property
    def parameters(self) -> int:
        return self.groups * (self.k * self.n + (self.n if self.bias else 0))


class Layers:
    """Builds the kernels of the layers of a model on one rank.

    Parameters
    ----------
    seq: tokens of a sequence. dtype: of products: fp32, tf32, fp16, bf16, fp8, mxfp8, nvfp4. training: dropout runs.
    """

    def __init__(
        self, model: ModelSpec, framework: FrameworkSpec, cut: Cut, seq: int, dtype: str, training: bool = True
    ) -> None:
        self.model, self.framework, self.cut, self.seq, self.dtype = model, framework, cut, seq, dtype
        self.e = element_bytes(dtype)
        self.tokens = cut.micro_batch * seq // cut.context
        self.own = self.tokens // cut.tensor if cut.sequence_parallel else self.tokens
        self.heads = model.heads // cut.tensor
        self.kv_heads = max(model.kv_heads // cut.tensor, 1)
        self.dropout = framework.dropout is not None and training
        self.causal = model.encoder is None
        rate = cut.micro_batch * self.heads
        self.fused_softmax = framework.softmax == "fused" and rate % framework.softmax_multiple == 0

    @property
    def stream(self) -> float:
        """Elements of the residual stream of a rank, as many as kernels on it move."""
        return self.own * self.model.hidden * self.framework.outside

    # -- pieces

    def rows(self, name: str, family: str, elements: float, passes: float, launches: float = 1) -> Kernel:
        """A stream of so many passes over elements of activations."""
        return Kernel(name, Rows(family, round(elements * self.e * passes), self.e), launches)

    def linear(self, layer: Linear) -> Iterable[Kernel]:
        dtype = self.dtype if layer.narrow else plain(self.dtype)
        if layer.cast and dtype in NARROW and self.framework.quantise:
            yield self.cast(f"{layer.name}_cast", layer.tokens * layer.k * layer.groups)
        yield Kernel(
            layer.name,
            Product(layer.tokens, layer.k, layer.n, layer.groups, dtype, self.e, layer.groups > 1),
            self.launches(layer),
        )

    def launches(self, layer: Linear) -> float:
        """Calls of the host for a linear layer."""
        return self.framework.experts_calls if layer.groups > 1 else 1

    def cast(self, name: str, elements: float) -> Kernel:
        """Activations into the narrow format, as they are and transposed."""
        return Kernel(name, Rows("cast", round(elements * (self.e + 2 * NARROW[self.dtype])), 2))

    def linear_grad(self, layer: Linear) -> Iterable[Kernel]:
        """The gradient of the input, then that of the weights."""
        dtype = self.dtype if layer.narrow else plain(self.dtype)
        ways, experts = self.framework.gradients, layer.groups > 1
        if dtype in NARROW and self.framework.quantise:
            yield self.cast(f"{layer.name}_grad_cast", layer.tokens * layer.n * layer.groups)
        if layer.bias:
            yield self.rows(f"{layer.name}_bias_grad", "sum", layer.tokens * layer.n, 1)
        yield Kernel(
            f"{layer.name}_dgrad",
            Product(layer.tokens, layer.n, layer.k, layer.groups, dtype, self.e, experts),
            self.launches(layer),
        )
        if not layer.trained:
            return
        out = 2 * self.framework.gradient_bytes if ways == "fused" else self.e
        yield Kernel(
            f"{layer.name}_wgrad",
            Product(layer.n, layer.tokens, layer.k, layer.groups, dtype, out, experts),
            self.launches(layer),
        )
        if ways == "added":
            size = layer.parameters * (self.e + 2 * self.framework.gradient_bytes)
            yield Kernel(f"{layer.name}_accumulate", Rows("add", round(size)), 2 if layer.bias else 1)

    def norm(self, name: str) -> Kernel:
        return self.rows(name, "norm", self.stream, 2)

    def norm_grad(self, name: str) -> Iterable[Kernel]:
        yield self.rows(f"{name}_grad", "norm_grad", self.stream, 3)
        yield self.rows(f"{name}_weight_grad", "sum", self.stream, 2)

    def residual(self, name: str, bias: bool) -> Iterable[Kernel]:
        """Sum of a branch and what it began with, dropout before it where it runs."""
        size, mask = self.stream, 1 / self.e
        if self.framework.residual == "fused":
            yield self.rows(name, "elementwise", size, 3 + (mask if self.dropout else 0))
            return
        if self.dropout:
            yield self.rows(f"{name}_dropout", "elementwise", size, 2 + mask)
        yield self.rows(name, "elementwise", size, 3)

    def residual_grad(self, name: str) -> Iterable[Kernel]:
        size, mask = self.stream, 1 / self.e
        if self.dropout:
            yield self.rows(f"{name}_dropout_grad", "elementwise", size, 2 + mask)
        yield self.rows(f"{name}_grad", "elementwise", size, 3)

    def exchange(self, name: str, collective: str, elements: float, group: str, beside: bool = False) -> list[Kernel]:
        """A collective of activations; none where the group is one rank."""
        ranks = {"tensor": self.cut.tensor, "context": self.cut.context, "experts": self.cut.experts}[group]
        if ranks == 1:
            return []
        return [Kernel(name, Exchange(collective, round(elements * self.e), group), 1, beside)]

    def into(self, name: str) -> list[Kernel]:
        """Before a column-split layer: tokens are gathered where they were shared."""
        if not self.cut.sequence_parallel:
            return []
        return self.exchange(f"{name}_gather", "all_gather", self.tokens * self.model.hidden, "tensor")

    def out_of(self, name: str) -> list[Kernel]:
        """After a row-split layer."""
        way = "reduce_scatter" if self.cut.sequence_parallel else "all_reduce"
        return self.exchange(f"{name}_{way}", way, self.tokens * self.model.hidden, "tensor")

    def into_grad(self, name: str) -> list[Kernel]:
        """Gradients of what a column-split layer read; with shared tokens its input is gathered again beside it."""
        if not self.cut.sequence_parallel:
            return self.exchange(f"{name}_grad_all_reduce", "all_reduce", self.tokens * self.model.hidden, "tensor")
        size = self.tokens * self.model.hidden
        again = self.exchange(f"{name}_gather_again", "all_gather", size, "tensor", beside=True)
        return again + self.exchange(f"{name}_grad_scatter", "reduce_scatter", size, "tensor")

    def out_of_grad(self, name: str) -> list[Kernel]:
        if not self.cut.sequence_parallel:
            return []
        return self.exchange(f"{name}_grad_gather", "all_gather", self.tokens * self.model.hidden, "tensor")

    # -- attention

    def projections(self) -> list[Linear]:
        """Linear layers before attention."""
        model, tp, t = self.model, self.cut.tensor, self.tokens
        if (mla := model.mla) is not None:
            latent = [Linear("kv_down", t, model.hidden, mla.cached, cast=False)]
            query = self.heads * mla.qk_head_dim
            if mla.q_lora_rank is None:
                latent.append(Linear("q", t, model.hidden, query, cast=False))
            else:
                latent.append(Linear("q_down", t, model.hidden, mla.q_lora_rank, cast=False))
                latent.append(Linear("q_up", t, mla.q_lora_rank, query, cast=False))
            width = self.heads * (mla.qk_nope_head_dim + mla.v_head_dim)
            return [*latent, Linear("kv_up", t, mla.kv_lora_rank, width, cast=False)]
        width = (model.heads * model.head_dim + 2 * model.kv_heads * model.head_dim) // tp
        return [Linear("qkv", t, model.hidden, width, model.qkv_bias, cast=False)]

    def output(self) -> Linear:
        wide = self.model.mla.v_head_dim if self.model.mla is not None else self.model.head_dim
        return Linear("out", self.tokens, self.heads * wide, self.model.hidden, self.model.out_bias)

    @property
    def widths(self) -> tuple[int, int]:
        """Of a head's keys and of its values."""
        if (mla := self.model.mla) is not None:
            return mla.qk_head_dim, mla.v_head_dim
        return self.model.head_dim, self.model.head_dim

    @property
    def qkv_elements(self) -> int:
        """Of queries, keys and values of a rank."""
        keys, values = self.widths
        shared = self.heads if self.model.mla is not None else self.kv_heads
        return self.tokens * (self.heads * keys + shared * (keys + values))

    @property
    def scores(self) -> int:
        """Elements between the two products of unfused attention."""
        return self.cut.micro_batch * self.heads * (self.seq // self.cut.context) * self.seq

    def flash(self, window: int | None, backward: bool) -> Kernel:
        """Attention as one kernel; context-parallel ranks have even shares of the causal work."""
        keys, values = self.widths
        context = self.cut.context
        shared = self.heads if self.model.mla is not None else self.kv_heads
        seen, causal = (self.seq // 2, False) if context > 1 and self.causal else (self.seq, self.causal)
        dtype = self.dtype if self.e == 4 else "bf16"
        queries = self.seq // context
        work = Flash(
            self.cut.micro_batch,
            self.heads,
            shared,
            keys,
            values,
            queries,
            seen,
            causal,
            window,
            backward,
            dtype,
            self.framework.attention_library,
        )
        return Kernel("attention_grad" if backward else "attention", work, 3 if backward else 1)

    def core(self, window: int | None) -> list[Kernel]:
        """From queries, keys and values to what the output projection reads."""
        keys, values = self.widths
        made: list[Kernel] = []
        if self.framework.copies:
            made.append(
                self.rows("qkv_copies", "copy", self.qkv_elements, 2 * self.framework.copies, self.framework.copies * 2)
            )
        if self.model.positions == "rotary":
            made.append(self.rows("rotary", "elementwise", self.tokens * (self.heads + self.kv_heads) * keys, 2))
        if self.cut.context > 1:
            size = self.tokens * self.cut.context * self.kv_heads * (keys + values)
            made += self.exchange("keys_gather", "all_gather", size, "context", beside=True)
        if self.framework.attention == "flash":
            return [*made, self.flash(window, False)]
        batches, s = self.cut.micro_batch * self.heads, self.seq
        made.append(Kernel("scores", Product(s, keys, s, batches, plain(self.dtype), self.e)))
        made += self.softmax()
        if self.dropout:
            made.append(self.rows("attention_dropout", "elementwise", self.scores, 2 + 1 / self.e))
        made.append(Kernel("context", Product(s, s, values, batches, plain(self.dtype), self.e)))
        made.append(self.rows("context_copy", "copy", self.tokens * self.heads * values, 2))
        return made

    def softmax(self) -> list[Kernel]:
        """Scale, mask and softmax; eager ones of 16 bits go through 32."""
        if self.fused_softmax:
            return [self.rows("softmax", "fused_softmax", self.scores, 2)]
        if self.e == 2:  # widened, scaled, masked, softmax, narrowed
            return [
                self.rows("mask", "elementwise", self.scores, 11, 3),
                self.rows("softmax", "softmax", self.scores, 7, 2),
            ]
        return [
            self.rows("mask", "elementwise", self.scores, 4, 2),
            self.rows("softmax", "softmax", self.scores, 2),
        ]

    def softmax_grad(self) -> list[Kernel]:
        if self.fused_softmax:
            return [self.rows("softmax_grad", "fused_softmax", self.scores, 3)]
        if self.e == 2:
            return [
                self.rows("softmax_grad", "softmax_grad", self.scores, 6),
                self.rows("mask_grad", "elementwise", self.scores, 11, 4),
            ]
        return [
            self.rows("softmax_grad", "softmax_grad", self.scores, 3),
            self.rows("mask_grad", "elementwise", self.scores, 4, 2),
        ]

    def core_grad(self, window: int | None) -> list[Kernel]:
        keys, values = self.widths
        made: list[Kernel] = []
        if self.cut.context > 1:
            size = self.tokens * self.cut.context * self.kv_heads * (keys + values)
            made += self.exchange("keys_gather_again", "all_gather", size, "context", beside=True)
            made += self.exchange("keys_grad_scatter", "reduce_scatter", size, "context", beside=True)
        if self.framework.attention == "flash":
            made.append(self.flash(window, True))
        else:
            batches, s = self.cut.micro_batch * self.heads, self.seq
            wide = plain(self.dtype)
            made.append(self.rows("context_copy_grad", "copy", self.tokens * self.heads * values, 2))
            made.append(Kernel("weights_grad", Product(s, values, s, batches, wide, self.e)))
            made.append(Kernel("values_grad", Product(s, s, values, batches, wide, self.e)))
            if self.dropout:
                made.append(self.rows("attention_dropout_grad", "elementwise", self.scores, 2 + 1 / self.e))
            made += self.softmax_grad()
            made.append(Kernel("queries_grad", Product(s, s, keys, batches, wide, self.e)))
            made.append(Kernel("keys_grad", Product(s, s, keys, batches, wide, self.e)))
        if self.model.positions == "rotary":
            made.append(self.rows("rotary_grad", "elementwise", self.tokens * (self.heads + self.kv_heads) * keys, 2))
        if self.framework.copies:
            made.append(
                self.rows(
                    "qkv_copies_grad", "copy", self.qkv_elements, 2 * self.framework.copies, self.framework.copies * 2
                )
            )
        return made

    # -- the second half of a layer

    def mlp(self, inner: int, tokens: int | None = None, groups: int = 1, name: str = "") -> tuple[Linear, Linear]:
        """The linear layers up (with the gate beside it) and down; ``inner``: columns of a rank."""
        model, t = self.model, self.tokens if tokens is None else tokens
        gated = model.mlp == "gated"
        wide = self.expert_width if groups > 1 else model.hidden
        up = Linear(f"{name}up", t, wide, inner * (2 if gated else 1), model.mlp_bias, groups, cast=groups > 1)
        return up, Linear(f"{name}down", t, inner, wide, model.mlp_bias, groups)

    @property
    def expert_width(self) -> int:
        """Width at which experts work."""
        narrower = self.model.expert_width if isinstance(self.model, HybridSpec) else None
        return narrower or self.model.hidden

    def narrowing(self) -> list[Linear]:
        """Projections of tokens for experts that work at a width of their own, and back."""
        if self.expert_width == self.model.hidden:
            return []
        hidden = self.model.hidden
        return [
            Linear("expert_narrow", self.own, hidden, self.expert_width),
            Linear("expert_widen", self.own, self.expert_width, hidden),
        ]

    def activation(self, up: Linear, inner: int) -> Iterable[Kernel]:
        size, gated = up.groups * up.tokens * inner, self.model.mlp == "gated"
        if self.framework.activation == "fused" or self.model.activation == "relu" or gated:
            yield self.rows(f"{up.name}_activation", "gated" if gated else "elementwise", size, 3 if gated else 2)
        else:  # GELU by its tanh, function by function
            kernels = 8 if self.causal else 1
            yield self.rows(f"{up.name}_activation", "elementwise", size, 2.2 * kernels, kernels)

    def activation_grad(self, up: Linear, inner: int) -> Iterable[Kernel]:
        size, gated = up.groups * up.tokens * inner, self.model.mlp == "gated"
        if self.framework.activation == "fused" or self.model.activation == "relu" or gated:
            yield self.rows(f"{up.name}_activation_grad", "gated" if gated else "elementwise", size, 5 if gated else 3)
        else:
            kernels = 11 if self.causal else 1
            yield self.rows(f"{up.name}_activation_grad", "elementwise", size, 2.5 * kernels, kernels)

    def dense_half(self) -> list[Kernel]:
        inner = self.model.intermediate // self.cut.tensor
        up, down = self.mlp(inner)
        made = [*self.into("mlp"), *self.linear(up), *self.activation(up, inner), *self.linear(down)]
        return made + self.out_of("mlp")

    def dense_half_grad(self) -> list[Kernel]:
        inner = self.model.intermediate // self.cut.tensor
        up, down = self.mlp(inner)
        made = [*self.out_of_grad("mlp"), *self.linear_grad(down), *self.activation_grad(up, inner)]
        return [*made, *self.linear_grad(up), *self.into_grad("mlp")]

    def experts_parts(self) -> tuple[int, tuple[Linear, Linear], tuple[Linear, Linear] | None, int]:
        """Visits of a rank's own tokens; experts and shared experts as linear layers; width of the shared ones."""
        moe = self.model.moe
        if moe is None:
            raise ValueError("a dense model has no experts")
        cut = self.cut
        # Tokens of a rank of experts: those of all its data ranks, dealt evenly; tensor-parallel ones share them.
        mine = self.tokens // cut.tensor if cut.experts > 1 or cut.sequence_parallel else self.tokens
        visits = mine * moe.experts_per_token
        local = moe.experts // cut.experts
        each = max(1, visits * cut.experts // moe.experts)
        inner = moe.expert_intermediate
        experts = self.mlp(inner, each, local, "expert_")
        shared = moe.shared_intermediate // cut.tensor
        return visits, experts, self.mlp(shared, name="shared_") if shared else None, shared

    def experts_half(self) -> list[Kernel]:
        moe = self.model.moe
        if moe is None:
            raise ValueError("a dense model has no experts")
        visits, (up, down), shared, shared_inner = self.experts_parts()
        hidden, copies = self.expert_width, self.framework.experts_copies
        router = Linear("router", self.own, self.model.hidden, moe.experts, narrow=False)
        made = [*self.linear(router), self.rows("route", "elementwise", self.own * moe.experts, 8, 6)]
        for layer in self.narrowing():
            made += self.linear(layer)
        if shared is not None:
            made += [*self.linear(shared[0]), *self.activation(shared[0], shared_inner), *self.linear(shared[1])]
        made.append(self.rows("dispatch", "copy", visits * hidden, copies, 3))
        made += self.exchange("dispatch_exchange", "all_to_all", visits * hidden, "experts")
        made += [*self.linear(up), *self.activation(up, moe.expert_intermediate), *self.linear(down)]
        made += self.exchange("combine_exchange", "all_to_all", visits * hidden, "experts")
        made.append(self.rows("combine", "copy", visits * hidden, copies, 3))
        return made

    def experts_half_grad(self) -> list[Kernel]:
        moe = self.model.moe
        if moe is None:
            raise ValueError("a dense model has no experts")
        visits, (up, down), shared, shared_inner = self.experts_parts()
        hidden, copies = self.expert_width, self.framework.experts_copies
        router = Linear("router", self.own, self.model.hidden, moe.experts, narrow=False)
        made = [kernel for layer in self.narrowing() for kernel in self.linear_grad(layer)]
        made += [self.rows("combine_grad", "copy", visits * hidden, copies + 1, 4)]
        made += self.exchange("combine_grad_exchange", "all_to_all", visits * hidden, "experts")
        made += [*self.linear_grad(down), *self.activation_grad(up, moe.expert_intermediate), *self.linear_grad(up)]
        made += self.exchange("dispatch_grad_exchange", "all_to_all", visits * hidden, "experts")
        made.append(self.rows("dispatch_grad", "copy", visits * hidden, copies, 3))
        if shared is not None:
            made += [
                *self.linear_grad(shared[1]),
                *self.activation_grad(shared[0], shared_inner),
                *self.linear_grad(shared[0]),
            ]
        made.append(self.rows("route_grad", "elementwise", self.own * moe.experts, 8, 6))
        return [*made, *self.linear_grad(router)]

    # -- layers

    def forward(self, kind: Kind) -> Kernels:
        """All kernels of a layer going forward."""
        made: list[Kernel] = []
        if kind.mixer == "attention":
            made += [self.norm("attention_norm"), *self.into("attention")]
            for layer in self.projections():
                made += self.linear(layer)
            if self.model.mla is not None:
                made.append(self.rows("latent_norms", "norm", self.tokens * self.model.mla.cached, 2, 2))
            made += [*self.core(kind.window), *self.linear(self.output()), *self.out_of("attention")]
            made += self.residual("attention_residual", self.model.out_bias)
        elif kind.mixer == "state_space":
            made += [self.norm("state_norm"), *self.into("state"), *self.state_half(), *self.out_of("state")]
            made += self.residual("state_residual", False)
        if kind.half:
            made.append(self.norm("mlp_norm"))
            made += self.experts_half() if kind.half == "experts" else self.dense_half()
            made += self.residual("mlp_residual", self.model.mlp_bias)
        return tuple(made)

    def backward(self, kind: Kind) -> Kernels:
        """All kernels of a layer going backward, nothing computed again."""
        made: list[Kernel] = []
        if kind.half:
            made += self.residual_grad("mlp_residual")
            made += self.experts_half_grad() if kind.half == "experts" else self.dense_half_grad()
            made += self.norm_grad("mlp_norm")
        if kind.mixer == "attention":
            made += self.residual_grad("attention_residual")
            made += [*self.out_of_grad("attention"), *self.linear_grad(self.output()), *self.core_grad(kind.window)]
            for layer in reversed(self.projections()):
                made += self.linear_grad(layer)
            if self.model.mla is not None:
                made.append(self.rows("latent_norms_grad", "norm_grad", self.tokens * self.model.mla.cached, 3, 4))
            made += [*self.into_grad("attention"), *self.norm_grad("attention_norm")]
        elif kind.mixer == "state_space":
            made += [*self.residual_grad("state_residual"), *self.out_of_grad("state"), *self.state_half_grad()]
            made += [*self.into_grad("state"), *self.norm_grad("state_norm")]
        return tuple(made)

    def again(self, recompute: str, kind: Kind) -> Kernels:
        """What the backward pass of a layer computes again."""
        if recompute == "full":
            return self.forward(kind)
        if recompute == "selective" and self.framework.attention == "unfused" and kind.mixer == "attention":
            skipped = {"qkv_copies", "rotary", "context_copy"}
            return tuple(kernel for kernel in self.core(kind.window) if kernel.name not in skipped)
        return ()

    # -- state spaces

    def state_space(self) -> tuple[StateSpaceSpec, list[Linear]]:
        """The state space of the model, and the linear layers around it."""
        if not isinstance(self.model, HybridSpec) or self.model.state_space is None:
            raise ValueError("a transformer has no state spaces")
        spec, tp = self.model.state_space, self.cut.tensor
        wide = (2 * spec.inner + 2 * spec.groups * spec.state + spec.heads) // tp
        down = Linear("state_in", self.tokens, self.model.hidden, wide, cast=False)
        return spec, [down, Linear("state_out", self.tokens, spec.inner // tp, self.model.hidden)]

    def chunks(self, spec: StateSpaceSpec, name: str, backward: bool) -> list[Kernel]:
        """Products of a chunk (arXiv 2405.21060, section 6): scores within it, states, and what they give."""
        heads, count = max(1, spec.heads // self.cut.tensor), self.tokens // spec.chunk
        wide, n, p = plain(self.dtype), spec.state, spec.head_dim
        times = 2 if backward else 1
        shapes = ((spec.chunk, n, spec.chunk), (spec.chunk, spec.chunk, p), (n, spec.chunk, p), (spec.chunk, n, p))
        return [
            Kernel(f"{name}_{i}_{j}", Product(m, k, columns, heads * count, wide, self.e))
            for i, (m, k, columns) in enumerate(shapes)
            for j in range(times)
        ]

    def state_half(self) -> list[Kernel]:
        spec, (first, last) = self.state_space()
        inner = self.tokens * spec.inner // self.cut.tensor
        seen = inner + self.tokens * 2 * spec.groups * spec.state // self.cut.tensor
        made = [*self.linear(first), self.rows("convolution", "elementwise", seen, 2)]
        made += [*self.chunks(spec, "state", False), self.rows("scan", "scan", inner, 6, 3)]
        return [*made, self.rows("gated_norm", "norm", inner, 3), *self.linear(last)]

    def state_half_grad(self) -> list[Kernel]:
        spec, (first, last) = self.state_space()
        inner = self.tokens * spec.inner // self.cut.tensor
        seen = inner + self.tokens * 2 * spec.groups * spec.state // self.cut.tensor
        made = [*self.linear_grad(last), self.rows("gated_norm_grad", "norm_grad", inner, 5, 2)]
        made += [*self.chunks(spec, "state_grad", True), self.rows("scan_grad", "scan", inner, 12, 5)]
        return [*made, self.rows("convolution_grad", "elementwise", seen, 4, 2), *self.linear_grad(first)]
