"""The ops of one rank of a transformer, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from archsim.errors import InputError
from archsim.workloads.cross_attention import cross_attention
from archsim.workloads.dims import Dim
from archsim.workloads.disentangled_attention import disentangled
from archsim.workloads.encoder_ends import attention_pool, convolutions
from archsim.workloads.formats import Formats
from archsim.workloads.images import images
from archsim.workloads.latent_attention import latent_attention
from archsim.workloads.micro_batches import Layer, by_exchanges, by_streams, in_turn
from archsim.workloads.mixture_of_experts import Router
from archsim.workloads.model import LayerKind, MixtureSpec, ModelSpec
from archsim.workloads.op import (
    Attention,
    Collective,
    Embedding,
    MatMul,
    Op,
    Role,
    Transfer,
    Vector,
)
from archsim.workloads.operators import Widths, operators, picking, small_kernels
from archsim.workloads.parameters import norm_vectors
from archsim.workloads.passes import Pass
from archsim.workloads.program import Block, Segment
from archsim.workloads.quantization import Part
from archsim.workloads.rank_memory import kv_bytes
from archsim.workloads.recurrent_layer import recurrent
from archsim.workloads.sparse_mlp import experts
from archsim.workloads.strands import laddered
from archsim.workloads.transformer_spec import TransformerSpec

_MOST_LAYERS = 2**14


class RankOps:
    """Builds the ops of one rank.

    Parameters
    ----------
    spec: the workload. formats: its number formats.
    """

    def __init__(self, spec: TransformerSpec, formats: Formats, router: Router | None) -> None:
        self.spec, self.model, self.formats, self.router = spec, spec.model, formats, router
        model, self.tp = spec.model, spec.tensor_parallel
        stored = None if spec.weight_dtype is not None else model.quantization
        self.scales = None if stored is None else stored.scales
        self.codewords = None if stored is None else stored.codewords
        self.kept = () if stored is None else stored.kept
        self.heads = model.heads // self.tp
        self.kv_heads = max(model.kv_heads // self.tp, 1)
        self.travelling = spec.expert_parallel > self.tp  # tokens go to experts on ranks that have not seen them
        self.inner = model.intermediate // self.tp
        self.sharers = self.tp if spec.splits_vocabulary else 1
        self.vocab = -(-model.vocab // self.sharers)
        recurrent = model.recurrent
        each = 0 if recurrent is None else recurrent.state_bytes(self.tp)
        self.state_bytes = model.recurrent_layers * each
        """of a sequence, in all layers that keep a state"""
        self.norm_weights = model.hidden * norm_vectors(model)

    # --- pieces

    def linear(
        self, name: str, m: Dim, k: int, n: int, bias: bool = False, groups: int = 1, part: Part = "attention"
    ) -> MatMul:
        """A product with weights of a part of a layer."""
        product = self.whole(name, m, k, n, bias, groups)
        if part in self.kept:
            return product
        return replace(product, right_dtype=self.formats.weight, scales=self.scales)

    def whole(self, name: str, m: Dim, k: int, n: int, bias: bool = False, groups: int = 1) -> MatMul:
        """A product with weights that are not quantised with those of the layers."""
        f = self.formats
        return MatMul(
            name=name,
            m=m,
            k=k,
            n=n,
            groups=groups,
            bias=bias,
            left_dtype=f.activation,
            right_dtype=f.table,
            out_dtype=f.activation,
            pruned=f.pruned,
        )

    def vector(
        self,
        name: str,
        function: str,
        rows: Dim,
        width: int,
        inputs: int = 1,
        outputs: int = 1,
        weights: int = 0,
        kv_write: Dim = 0,
    ) -> Vector:
        return Vector(
            name=name,
            function=function,
            rows=rows,
            width=width,
            inputs=inputs,
            outputs=outputs,
            weights=weights,
            kv_write=kv_write,
            dtype=self.formats.activation,
        )

    def norm(self, name: str, rows: Dim) -> Vector:
        return self.vector(name, self.model.norm, rows, self.model.hidden, weights=self.norm_weights)

    def residual(self, name: str, rows: Dim, inputs: int = 2) -> Vector:
        return self.vector(name, "residual", rows, self.model.hidden, inputs=inputs)

    def all_reduce(self, tokens: Dim, producer: str) -> list[Op]:
        if self.tp == 1 or self.model.residual == "apart":
            return []
        size = self.formats.activation.bytes(tokens * self.model.hidden)
        return [
            Collective(
                name=f"{producer}_all_reduce", collective="all_reduce", bytes=size, ranks=self.tp, producer=producer
            )
        ]

    def all_gather(self, tokens: Dim, producer: str) -> list[Op]:
        """What each rank of a tensor-parallel group has computed for its part of the tokens."""
        if self.tp == 1:
            return []
        size = self.formats.activation.bytes(tokens * self.model.hidden)
        return [
            Collective(
                name=f"{producer}_all_gather", collective="all_gather", bytes=size, ranks=self.tp, producer=producer
            )
        ]

    def joined(self, ops: list[Op], tokens: Dim, which: str, producer: str) -> list[Op]:
        """Attention or MLP between its norms and with its residual sum."""
        where = self.model.norm_position
        out: list[Op] = [self.norm(f"{which}_norm", tokens)] if where in ("pre", "sandwich") else []
        spread = producer == "experts_sum" and self.travelling
        out += ops + (self.all_gather if spread else self.all_reduce)(tokens, producer)
        if where in ("sandwich", "output"):
            out.append(self.norm(f"{which}_post_norm", tokens))
        out.append(self.residual(f"{which}_residual", tokens))
        if where == "post":
            out.append(self.norm(f"{which}_norm", tokens))
        return out

    # --- attention

    def keys_and(self, others: int, name: str, tokens: Dim, width: int) -> list[Op]:
        """Keys beside what else is projected of the same input, apart where they alone have no bias."""
        model, keys = self.model, self.kv_heads * self.model.head_dim
        if model.qkv_bias and not model.key_bias:
            return [
                self.linear(name, tokens, width, others, bias=True),
                self.linear(f"{name}_keys", tokens, width, keys),
            ]
        return [self.linear(name, tokens, width, others + keys, model.qkv_bias)]

    def mixer(self, step: Pass, kind: LayerKind) -> list[Op]:
        """What mixes the tokens of a layer."""
        return recurrent(self, step) if kind.recurrent else self.attention(step, kind.window)

    def attention(self, step: Pass, window: int | None) -> list[Op]:
        """From the normed input to the output projection."""
        if self.model.mla is not None:
            return latent_attention(self, step)
        model, f, tokens = self.model, self.formats, step.tokens
        dim, heads, kv_heads = model.head_dim, self.heads, self.kv_heads
        encoder = model.encoder is not None
        ops = self.keys_and((heads * (2 if model.output_gate else 1) + kv_heads) * dim, "qkv", tokens, model.hidden)
        if model.qk_norm == "head":
            vectors = norm_vectors(model) if model.norm == "layernorm" else 1
            width = (heads + kv_heads) * dim
            ops.append(self.vector("qk_norm", model.norm, tokens, width, weights=2 * dim * vectors))
        elif model.qk_norm == "full":
            width = (heads + kv_heads) * dim
            ops.append(self.vector("qk_norm", model.norm, tokens, width, weights=width))
        written = f.kv.bytes(tokens * 2 * kv_heads * dim)
        if model.positions == "rotary":
            kept = 0 if encoder else written
            ops.append(self.vector("rotary", "rotary", tokens, (heads + kv_heads) * dim, kv_write=kept))
        elif not encoder:
            ops.append(self.vector("kv_append", "convert", tokens, 2 * kv_heads * dim, outputs=0, kv_write=written))
        base = Attention(
            name="attention",
            batch=1,
            heads=heads,
            kv_heads=kv_heads,
            q_len=1,
            kv_len=1,
            head_dim=dim,
            v_head_dim=dim,
            causal=not encoder,
            window=window,
            dtype=f.activation,
            kv_dtype=f.activation if encoder else f.kv,
            kv_role=Role.ACTIVATION if encoder else Role.KV,
        )
        if model.encoder is not None and model.encoder.disentangled is not None:
            ops += disentangled(self, step, model.encoder.disentangled)
        ops.append(step.attention(base))
        if model.output_gate:
            ops.append(self.vector("output_gate", "silu", tokens, heads * dim, inputs=2))
        ops.append(self.linear("out", tokens, heads * dim, model.hidden, model.out_bias))
        return ops

    # --- MLP and experts

    def mlp(self, tokens: Dim, inner: int, prefix: str = "", bias: bool = False) -> list[Op]:
        model, gated = self.model, self.model.mlp == "gated"
        up = f"{prefix}gate_up" if gated else f"{prefix}up"
        part: Part = "shared_experts" if prefix else "mlp"
        return [
            self.linear(up, tokens, model.hidden, (2 if gated else 1) * inner, bias, part=part),
            self.vector(f"{prefix}activation", model.activation, tokens, inner, inputs=2 if gated else 1),
            self.linear(f"{prefix}down", tokens, inner, model.hidden, bias, part=part),
        ]

    # --- layers and ends

    def dense_layer(self, step: Pass, kind: LayerKind) -> tuple[Op, ...]:
        model, tokens = self.model, step.tokens
        if model.parallel_attention:
            up, *rest = self.mlp(tokens, self.inner, bias=model.mlp_bias)
            norms: list[Op] = [self.norm("attention_norm", tokens)]
            if model.parallel_norms:
                norms.append(replace(self.norm("mlp_norm", tokens), after=()))
            first, *others = self.attention(step, kind.window)
            ops = [*norms, replace(first, after=("attention_norm",)), *others]
            ops += [replace(up, after=(norms[-1].name,)), *rest]
            if self.tp > 1:
                ops += [
                    self.vector("partial_sum", "add", tokens, model.hidden, inputs=2),
                    *self.all_reduce(tokens, "partial_sum"),
                    self.residual("residual", tokens),
                ]
                partial = next(i for i, op in enumerate(ops) if op.name == "partial_sum")
                ops[partial] = replace(ops[partial], after=("out", "down"))
            else:
                ops.append(replace(self.residual("residual", tokens, inputs=3), after=("out", "down")))
            return tuple(ops)
        mixed = self.mixed(step, kind)
        if not kind.mlp:
            return mixed
        return (
            *mixed,
            *self.joined(self.mlp(tokens, self.inner, bias=model.mlp_bias), tokens, "mlp", "down"),
        )

    def mixed(self, step: Pass, kind: LayerKind) -> tuple[Op, ...]:
        """What comes before the MLP or the experts of a layer: what mixes its tokens, and a look at an encoder."""
        model, tokens = self.model, step.tokens
        ops = self.joined(self.mixer(step, kind), tokens, "attention", "out")
        if model.looks_at is not None:
            ops += self.joined(cross_attention(self, step, model.looks_at), tokens, "cross", "cross_out")
        return tuple(ops)

    def layers(self, step: Pass) -> tuple[Block, ...]:
        """All layers of a pass, equal neighbours as one repeated block."""
        model, kinds = self.model, self.model.kinds
        if len(set(kinds)) == 1 and model.moe is None:
            name = "layer" if model.layers > 1 else "layer.0"
            return (Block(name, self.dense_layer(step, kinds[0]), model.layers),)
        if model.layers > _MOST_LAYERS:
            raise InputError(
                f"'{model.name}' has {model.layers} layers of experts or of several windows: at most {_MOST_LAYERS} "
                "are told apart"
            )
        dense = {kind: self.dense_layer(step, kind) for kind in kinds} if model.dense_layers else {}
        if model.moe is None or self.router is None:
            return runs([dense[model.kind(number)] for number in range(model.layers)])
        first, whole = model.moe.first_dense_layers, self.spec.micro_batches == 1
        if not whole and (model.moe.every > 1 or len(set(kinds)) > 1):
            raise InputError(f"micro_batches are for layers that are alike, and those of '{model.name}' are not")
        parts = self.expert_layers(step if whole else step.half(), model.moe, self.router)
        order = in_turn if whole else by_streams if step.absorbed else by_exchanges
        sparse = order(parts)
        layers = [
            next(sparse) if model.sparse(number) else dense[model.kind(number)]
            for number in range(first if not whole else model.layers)
        ]
        return runs([*layers, *sparse])

    def ordered(self, layers: tuple[Block, ...]) -> tuple[Block, ...]:
        """The layers in the order in which they are computed."""
        if self.model.residual != "ladder" or self.tp == 1:
            return layers
        *turns, last = laddered(each_layer(layers))
        return (*runs(turns), Block("last_sums", last))

    def expert_layers(self, step: Pass, moe: MixtureSpec, router: Router) -> Iterator[Layer]:
        """Attention and experts of each layer that has them; layers of equal loads are the same objects."""
        model = self.model
        attentions = {kind: self.mixed(step, kind) for kind in dict.fromkeys(model.kinds)}
        group, constant = self.group_tokens(step), step.constant_tokens
        known: dict[tuple[LayerKind, tuple[int, ...]], Layer] = {}
        kinds, layers = model.kinds, range(moe.first_dense_layers, model.layers)
        counts: tuple[int, ...] = ()
        for layer, number in enumerate(number for number in layers if model.sparse(number)):
            kind, before, counts = kinds[number % len(kinds)], counts, router.counts(layer, group, step.phase)
            if counts is not before or len(kinds) > 1 or not known:  # else it is the one before
                if (kind, counts) not in known:
                    sparse = experts(self, constant, moe, counts, most=step.group > 0)
                    sparse = self.joined(sparse, constant, "mlp", "experts_sum")
                    known[kind, counts] = attentions[kind], tuple(sparse)
                made = known[kind, counts]
            yield made

    def group_tokens(self, step: Pass) -> int:
        """Tokens of an expert-parallel group, which all its routers see together."""
        return step.group or step.constant_tokens * max(self.spec.expert_parallel // self.tp, 1)

    def embedding(self, step: Pass) -> Block:
        model, f, tokens = self.model, self.formats, step.tokens
        hidden, width = model.hidden, model.embedding_width or model.hidden

        def rows(name: str, of: int) -> Embedding:
            return Embedding(name=name, tokens=tokens, width=of, dtype=f.table, out_dtype=f.activation)

        encoder = model.encoder
        tabled = encoder is None or not (encoder.mel_bins or (encoder.patch_elements and not encoder.table))
        ops: list[Op] = [rows("tokens", width)] if tabled else []
        if encoder is not None and encoder.mel_bins:
            ops += convolutions(self, step, encoder.mel_bins)
        if self.spec.cache_tier is not None and not step.absorbed:
            size = kv_bytes(self, [(1, int(np.max(step.cached)))])
            ops.append(Transfer(name="cached_kv", bytes=size, source=self.spec.cache_tier, destination=Role.KV))
        if self.sharers > 1 and tabled:
            ops.append(
                Collective(
                    name="tokens_all_reduce",
                    collective="all_reduce",
                    ranks=self.tp,
                    bytes=f.activation.bytes(tokens * width),
                    producer="tokens",
                )
            )
        if model.embedding_width is not None:
            ops.append(self.whole("project_in", tokens, width, hidden))
        if encoder is not None and encoder.patch_elements:
            patches = tokens - step.sequences * tabled  # the first token of a sequence is the table's
            ops.append(self.whole("patches", patches, encoder.patch_elements, hidden, bias=encoder.patch_bias))
        summed = 1
        if model.positions == "learned":
            ops.append(rows("positions", hidden))
            summed += 1
        if encoder is not None and encoder.token_types:
            ops.append(rows("token_types", hidden))
            summed += 1
        if summed > 1:
            ops.append(self.residual("sum", tokens, inputs=summed))
        if model.embedding_norm:
            ops.append(self.norm("embedding_norm", tokens))
        return Block("embedding", tuple(ops))

    def head(self, step: Pass) -> Block | None:
        model, rows = self.model, step.tokens if step.drafting else step.sequences
        width = model.embedding_width or model.hidden
        ops: list[Op] = []
        if model.final_norm:
            ops.append(self.norm("final_norm", rows if model.encoder is None else step.tokens))
        if model.encoder is not None:
            if model.encoder.pooler:
                ops += [
                    self.whole("pooler", rows, model.hidden, model.hidden, bias=True),
                    self.vector("tanh", "tanh", rows, model.hidden),
                ]
            if model.encoder.attention_pool:
                ops += attention_pool(self, step)
            if model.encoder.classes:
                ops.append(self.whole("classifier", rows, model.hidden, model.encoder.classes, bias=True))
            return Block("head", tuple(ops)) if ops else None
        if model.embedding_width is not None:
            ops.append(self.whole("project_out", rows, model.hidden, width))
        how = self.spec.operators
        picked = () if how is None else picking(how, rows, self.vocab * self.sharers)
        return Block("head", (*ops, *self.logits(rows), *picked))

    def logits(self, rows: Dim) -> list[Op]:
        """The LM head, each rank's part of the vocabulary gathered."""
        model = self.model
        ops: list[Op] = [
            self.whole("lm_head", rows, model.embedding_width or model.hidden, self.vocab, model.lm_head_bias)
        ]
        if self.sharers > 1:
            gathered = self.formats.activation.bytes(rows * self.vocab * self.tp)
            ops.append(
                Collective(
                    name="logits_all_gather", collective="all_gather", bytes=gathered, ranks=self.tp, producer="lm_head"
                )
            )
        return ops

    def segment(self, step: Pass) -> Segment:
        replicas = self.spec.replicas
        head = self.head(step)
        layers = self.ordered(tuple(self.dispatched(self.layers(step))))
        first, last = self.dispatched([self.embedding(step)], step), self.dispatched(() if head is None else (head,))
        blocks = [*first, *layers, *last]
        if self.model.looks_at is not None and not step.absorbed:
            blocks = [*self.tower(self.model.looks_at).encoded(step.batch, self.spec.encoded), *blocks]
        if self.model.tower is not None and self.spec.images and not step.absorbed:
            blocks = [*images(self, step.batch), *blocks]
        if step.drafting:
            blocks.append(self.prediction(step))
        tokens = replicas * step.tokens if step.produced is None else step.produced
        return Segment(step.name, tuple(blocks), steps=step.steps, tokens=tokens)

    def tower(self, model: ModelSpec) -> RankOps:
        """An encoder beside this model, split over the same ranks."""
        router = None
        if model.moe is not None:
            layers = model.layers - model.dense_layers
            router = Router(self.spec.routing, model.moe, layers, self.spec.seed + 1)  # visits of its own
        return RankOps(self.spec.model_copy(update={"model": model}), self.formats, router)

    def encoded(self, batch: int, tokens: int) -> list[Block]:
        """The blocks of an encoder whose outputs another model reads."""
        made = self.segment(Pass("encode", 0, batch, tokens, tokens)).blocks
        return [replace(block, name=f"encoder_{block.name}") for block in made]

    def dispatched(self, blocks: Sequence[Block], first: Pass | None = None) -> list[Block]:
        """The blocks as a framework dispatches them; with small kernels before them where they are the ``first``."""
        how = self.spec.operators
        if how is None:
            return list(blocks)
        widths = Widths(self.heads * self.model.head_dim, self.kv_heads * self.model.head_dim)
        known: dict[int, tuple[Op, ...]] = {}
        made = [
            replace(block, ops=known.setdefault(id(block.ops), operators(block.ops, how, widths))) for block in blocks
        ]
        if first is None:
            return made
        before = small_kernels(how, int(np.max(first.tokens)))
        return [replace(made[0], ops=(*before, *made[0].ops)), *made[1:]]

    def prediction(self, step: Pass) -> Block:
        """The layer of multi-token prediction: it joins a hidden state with the token that followed.

        A model that came without one has a layer as its last is (EAGLE, arXiv 2401.15077).
        """
        model, tokens = self.model, step.constant_tokens
        if model.moe is not None and self.router is not None:
            counts = self.router.counts(self.router.layers - 1, self.group_tokens(step), step.phase + 1)
            mlp, last = experts(self, tokens, model.moe, counts), "experts_sum"
        else:
            mlp, last = self.mlp(tokens, self.inner, bias=model.mlp_bias), "down"
        ops: list[Op] = [
            Embedding(
                name="tokens",
                tokens=tokens,
                width=model.hidden,
                dtype=self.formats.table,
                out_dtype=self.formats.activation,
            ),
            self.norm("token_norm", tokens),
            self.norm("hidden_norm", tokens),
            self.linear("join", tokens, 2 * model.hidden, model.hidden),
            *self.joined(self.attention(step, None), tokens, "attention", "out"),
            *self.joined(mlp, tokens, "mlp", last),
            self.norm("final_norm", step.sequences),
            *self.logits(step.sequences),
        ]
        return Block("prediction", tuple(ops), max(model.mtp_layers, 1))


def each_layer(blocks: Sequence[Block]) -> list[tuple[Op, ...]]:
    """The ops of each layer."""
    return [block.ops for block in blocks for _ in range(block.repeat)]


def runs(layers: Sequence[tuple[Op, ...]]) -> tuple[Block, ...]:
    """Blocks of neighbours that are the same object; a run of one carries its number in its name."""
    blocks: list[Block] = []
    first = 0
    while first < len(layers):
        end = first + 1
        while end < len(layers) and layers[end] is layers[first]:
            end += 1
        repeat = end - first
        blocks.append(Block("layer" if repeat > 1 else f"layer.{first}", layers[first], repeat, first))
        first = end
    return tuple(blocks)
