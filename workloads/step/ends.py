"""What stands around the layers: embedding, head and loss, and the update of the parameters."""

from __future__ import annotations

from archsim.workloads.model import ModelSpec
from archsim.workloads.parameters import active_parameters, parameters
from archsim.workloads.step.cut import Cut
from archsim.workloads.step.framework import FrameworkSpec, HostSpec, LossSpec
from archsim.workloads.step.kinds import HybridSpec, Kind, kinds_of
from archsim.workloads.step.layer import Layers, Linear
from archsim.workloads.step.work import Exchange, Kernel, Kernels, Rows


class Ends:
    """Kernels of the embedding and of the head on a rank."""

    def __init__(self, layers: Layers) -> None:
        self.layers, self.model, self.framework = layers, layers.model, layers.framework
        multiple = self.framework.vocabulary_multiple
        self.vocab = -(-self.model.vocab // (multiple * layers.cut.vocabulary_ranks)) * multiple
        """rows of the table on a rank"""

    def embedding(self) -> Kernels:
        """Lookup, positions, dropout; tensor-parallel ranks sum what each knows of the tokens."""
        layers, size = self.layers, self.layers.tokens * self.model.hidden
        made = [layers.rows("lookup", "embedding", size, 2, 3)]
        way = "reduce_scatter" if layers.cut.sequence_parallel else "all_reduce"
        made += layers.exchange("embedding_sum", way, size, "tensor")
        if self.model.positions == "learned" or self.model.encoder is not None:
            made.append(layers.rows("positions", "elementwise", layers.own * self.model.hidden, 3, 2))
        if layers.dropout:
            made.append(layers.rows("embedding_dropout", "elementwise", layers.own * self.model.hidden, 2.5))
        return tuple(made)

    def embedding_grad(self) -> Kernels:
        """Rows of gradients added to a table that begins with zeros, which is added to what is kept."""
        layers, size = self.layers, self.layers.tokens * self.model.hidden
        made = [layers.rows("embedding_dropout_grad", "elementwise", size, 2.5)] if layers.dropout else []
        if layers.cut.sequence_parallel:
            made += layers.exchange("embedding_gather", "all_gather", size, "tensor")
        made.append(layers.rows("scatter", "scatter", size, 3, 4))
        table = self.vocab * self.model.hidden
        kept = 0 if self.framework.gradients == "written" else layers.e + 2 * self.framework.gradient_bytes
        made.append(Kernel("table_grad", Rows("add", round(table * (layers.e + kept))), 2))
        return tuple(made)

    def head(self) -> Kernels:
        """Norm, logits of all tokens, and the loss over a vocabulary that is cut over tensor-parallel ranks."""
        layers, loss = self.layers, self.framework.loss
        logits = layers.tokens * self.vocab
        made: list[Kernel] = [layers.norm("final_norm")] if self.model.final_norm else []
        made += [*layers.into("head"), *layers.linear(self._table())]
        made.append(Kernel("loss", Rows("loss", round(logits * loss.forward_bytes), layers.e), loss.forward_kernels))
        if layers.cut.tensor > 1:  # largest, the target's logit, sum of exponentials
            for name in ("largest", "target", "sum"):
                made.append(Kernel(f"loss_{name}", Exchange("all_reduce", 4 * layers.tokens, "tensor")))
        return tuple(made)

    def head_grad(self) -> Kernels:
        layers, loss = self.layers, self.framework.loss
        logits = layers.tokens * self.vocab
        made: list[Kernel] = [
            Kernel("loss_grad", Rows("loss_grad", round(logits * loss.backward_bytes), layers.e), loss.backward_kernels)
        ]
        made += [*layers.linear_grad(self._table()), *layers.into_grad("head")]
        if self.model.final_norm:
            made += layers.norm_grad("final_norm")
        return tuple(made)

    def _table(self) -> Linear:
        return Linear("logits", self.layers.tokens, self.model.hidden, self.vocab, cast=False, narrow=False)

    # -- parameters of a rank

    @property
    def table(self) -> int:
        """Parameters of a table of tokens on a rank."""
        return self.vocab * self.model.hidden

    def stage_parameters(self, first: bool, last: bool) -> int:
        """Of what stands around the layers on a stage, experts not included."""
        model, found = self.model, 0
        if first:
            found += self.table
            found += (model.max_positions + model.position_offset) * model.hidden * (model.positions == "learned")
        if last:
            found += model.hidden * (2 if model.norm == "layernorm" else 1)
            if not (model.tied_embeddings and first):
                found += self.table
        return found


def layer_parameters(layers: Layers, kind: Kind) -> tuple[int, int]:
    """Parameters of a layer on a rank: all but experts, and experts."""
    model, tp = layers.model, layers.cut.tensor
    plain = (bool(kind.mixer) + bool(kind.half)) * model.hidden * (2 if model.norm == "layernorm" else 1)
    linears: list[Linear] = []
    if kind.mixer == "attention":
        linears += [*layers.projections(), layers.output()]
    elif kind.mixer == "state_space":
        spec, around = layers.state_space()
        linears += around
        plain += (spec.inner + 2 * spec.groups * spec.state) * spec.convolution // tp
    if kind.half == "dense":
        linears += layers.mlp(model.intermediate // tp)
    if kind.half != "experts" or model.moe is None:
        return plain + sum(layer.parameters for layer in linears), 0
    _, (up, down), shared, _ = layers.experts_parts()
    linears += [*layers.narrowing(), *(shared or ())]
    plain += model.hidden * model.moe.experts
    return plain + sum(layer.parameters for layer in linears), up.parameters + down.parameters


def model_flops(model: ModelSpec, seq: int, causal: bool) -> float:
    """FLOPs of a token, forward and backward, none again: 6 per parameter that multiplies it, and attention.

    Parameters
    ----------
    causal: count half of the pairs of causal attention.
    """
    share = 0.5 if causal and model.encoder is None else 1.0
    kinds = kinds_of(model)
    keys = model.mla.qk_head_dim if model.mla is not None else model.head_dim
    values = model.mla.v_head_dim if model.mla is not None else model.head_dim
    scores = 6.0 * share * model.heads * (keys + values) * seq * sum(kind.mixer == "attention" for kind in kinds)
    if isinstance(model, HybridSpec):
        return 6.0 * _multiplying(model, kinds) + scores
    parts, active = parameters(model), active_parameters(model)
    active -= parts["embedding"] * (not model.tied_embeddings) + parts["positions"] + parts["token_types"]
    return 6.0 * active + scores


def _multiplying(model: HybridSpec, kinds: list[Kind]) -> int:
    """Parameters of a hybrid that multiply a token: those that it visits, and the head."""
    layers = Layers(model, _PLAIN, Cut(1, 1), _TOKENS, "bf16")
    found = model.vocab * model.hidden
    for kind in kinds:
        plain, experts = layer_parameters(layers, kind)
        found += plain
        if model.moe is not None:
            found += experts // model.moe.experts * model.moe.experts_per_token
    return found


_TOKENS = 1024  # of a sequence whose layers are asked for their parameters
_PLAIN = FrameworkSpec(
    name="none",
    source="",
    loss=LossSpec(forward_bytes=0, backward_bytes=0),
    host=HostSpec(forward_us=0, backward_us=0),
)
