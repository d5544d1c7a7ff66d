"""A transformer as the program of one rank: prefill and decode (or an encoder's one pass) under parallelism.

The program holds what inference computes, op by op, and no schedule: which engine, which tile and what
overlaps is the machine's business. Conventions:

- Step ``t`` of decoding (from 0) adds one token to each sequence, whose query sees ``input + t + 1`` keys.
- Prefill gives the first token of an answer, as vLLM, TensorRT-LLM and MLPerf count: ``output`` tokens take
  ``output - 1`` steps of decoding. A run of decode alone decodes all of them (``first_token`` says otherwise).
- In prefill only the last token of each sequence passes the final norm and the LM head.
- Latent attention is computed in its expanded form in prefill (keys and values of all heads are made from the
  latent vector) and in its absorbed form in decoding (queries are taken to the latent space instead).
- Tensor parallelism splits heads, inner widths and the vocabulary; biases of row-split layers, norms and
  routers are on every rank. Expert parallelism gives whole experts to ranks. With ``tensor_parallel: 1`` each
  rank of an expert-parallel group has sequences of its own and tokens travel (all-to-all); with
  ``expert_parallel`` equal to ``tensor_parallel`` the ranks share their tokens and the outputs are reduced.
- Ranks of a group that differ in load are folded onto the busiest one, layer by layer, because the others
  wait for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np

from archsim.errors import InputError
from archsim.units import si
from archsim.workloads.formats import ANYTHING, Formats, MachineFormats, Wanted
from archsim.workloads.mixture_of_experts import Router
from archsim.workloads.model import MixtureSpec
from archsim.workloads.op import (
    DType,
    Role,
)
from archsim.workloads.passes import Pass, Uniform, fullest_cache, recorded_decodes, recorded_prompts
from archsim.workloads.program import Program
from archsim.workloads.quantization import QuantizationSpec
from archsim.workloads.rank_memory import activation_bytes, kv_bytes, weight_bytes
from archsim.workloads.requests import RecordedLengths, Request, read_requests
from archsim.workloads.transformer_rank import RankOps
from archsim.workloads.transformer_spec import TransformerSpec, check_parallel


def _uniform_passes(spec: TransformerSpec) -> tuple[list[Pass], list[tuple[int, int]]]:
    """Passes of equal sequences, and the (sequences, tokens) that are cached at the end."""
    count, length, phases = spec.batch // spec.replicas, spec.prompt, spec.resolved_phases
    decoded = spec.decode_steps(spec.output or 0) if "decode" in phases else 0
    together = min(spec.prefill_batch or count, count)
    sequences = Uniform(count, length, spec.cached, together, decoded, spec.mtp_acceptance, spec.batch * decoded)
    passes = [sequences.prompt(phase) for phase in phases if phase != "decode"]
    return [*passes, *([sequences.decode()] if decoded else [])], [(count, length + decoded)]


def _recorded_passes(spec: TransformerSpec, recorded: RecordedLengths) -> tuple[list[Pass], list[tuple[int, int]]]:
    """Passes of recorded sequences, and the fullest cache."""
    size, phases = recorded.bucket, spec.resolved_phases

    def rounded(length: int) -> int:
        return max(-(-length // size) * size, 1)

    requests = [
        Request(r.arrival_ps, rounded(r.input), spec.decode_steps(rounded(r.output)) if r.output else 0)
        for r in read_requests(recorded.path, recorded.format, recorded.requests, recorded.first)
    ]
    passes = [recorded_prompts(phase, requests) for phase in phases if phase != "decode"]
    if "decode" not in phases:
        return passes, fullest_cache([replace(r, output=0) for r in requests])
    return [*passes, *recorded_decodes(requests, apart=spec.model.moe is not None)], fullest_cache(requests)


class TransformerWorkload:
    """Inference of a transformer, as a program for a machine."""

    Spec: ClassVar[type[TransformerSpec]] = TransformerSpec

    def __init__(self, spec: TransformerSpec) -> None:
        self.spec = spec

    def program(self, capacity_bytes: int | None = None, formats: MachineFormats = ANYTHING) -> Program:
        """The program of one rank.

        Parameters
        ----------
        capacity_bytes: memory of a rank for weights, KV cache and activations; ``dtype: auto`` picks by it,
            and takes the widest format when it is not known.
        formats: what the machine computes with; ``dtype`` keeps to it.

        Raises
        ------
        InputError: the model does not divide among the ranks, attention reads no such KV cache, or a recorded file is
            wrong.
        """
        spec, model = self.spec, self.spec.model
        check_parallel(spec)
        passes, final = _uniform_passes(spec) if spec.lengths is None else _recorded_passes(spec, spec.lengths)
        router = None
        if model.moe is not None:
            router = Router(spec.routing, model.moe, model.layers - model.dense_layers, spec.seed)
        program, tried = None, []
        for choice in self.wanted(formats).choices(formats):
            if choice.kv not in formats.cached:
                reads = ", ".join(formats.cached)
                raise InputError(f"kv_dtype {choice.kv}: attention on this machine reads a KV cache in {reads}")
            program = self._build(choice, router, passes, final)
            need = sum(program.resident_bytes.values()) + program.activation_bytes
            tried.append((choice, need))
            if capacity_bytes is None or need <= capacity_bytes:
                break
        if program is None:
            raise ValueError("no number format was tried")
        notes = self._notes(tried, capacity_bytes, passes)
        return replace(program, notes=tuple(notes))

    def wanted(self, machine: MachineFormats) -> Wanted:
        """What is asked for; a quantised model's weights are its file's unless the workload says otherwise."""
        spec, stored = self.spec, self.spec.model.quantization
        dtype = None if spec.dtype == "auto" else spec.dtype
        weight, table, activation = spec.weight_dtype, spec.table_dtype, spec.activation_dtype
        if stored is not None and weight is None:
            weight, table = stored.dtype, dtype if dtype is not None and dtype.bits >= 16 else DType.BF16
            if activation is None and stored.activation in machine.multiplied:
                activation = stored.activation
        return Wanted(
            dtype,
            weight=weight,
            table=table,
            activation=activation,
            kv=spec.kv_dtype,
            dispatch=spec.dispatch_dtype,
            expert=spec.expert_dtype,
        )

    def _build(
        self, formats: Formats, router: Router | None, passes: Sequence[Pass], final: Sequence[tuple[int, int]]
    ) -> Program:
        rank = RankOps(self.spec, formats, router)
        segments = tuple(rank.segment(step) for step in passes)
        whole = segments[-1]
        before = self.spec.model.looks_at is not None or self.spec.images
        if before and passes[-1].absorbed:  # an encoder is no part of decoding
            whole = rank.segment(replace(passes[-1], absorbed=False, q_len=1, kv_len=1))
        if self.spec.micro_batches > 1:  # both halves use the same weights
            whole = RankOps(self.spec.model_copy(update={"micro_batches": 1}), formats, router).segment(passes[-1])
        return Program(
            name=self.spec.model.name,
            segments=segments,
            ranks=self.spec.tensor_parallel * self.spec.replicas,
            resident_bytes={Role.WEIGHT: weight_bytes(rank, whole), Role.KV: kv_bytes(rank, final)},
            activation_bytes=activation_bytes(rank, segments, max(int(np.max(step.tokens)) for step in passes)),
        )

    def _notes(self, tried: Sequence[tuple[Formats, int]], capacity: int | None, passes: Sequence[Pass]) -> list[str]:
        spec, model = self.spec, self.spec.model
        formats, need = tried[-1]
        notes = list(model.notes)
        asked = spec.kv_dtype or spec.dtype, spec.activation_dtype or spec.dtype
        if spec.dtype != "auto" and asked != (formats.kv, formats.activation):
            notes.append(f"dtype {spec.dtype}: {formats}, which this machine computes with")
        if spec.dtype == "auto" and not (spec.weight_dtype and spec.kv_dtype and spec.activation_dtype):
            if capacity is None:
                notes.append(f"dtype auto: {formats}, for no memory size is known")
            else:
                larger = "".join(f"; {f.weight} needs {si(size, 'B', 4)}" for f, size in tried[:-1])
                fit = "fit in" if need <= capacity else "is the narrowest choice and still exceeds"
                notes.append(f"dtype auto: {formats}, {si(need, 'B', 4)} a rank, {fit} {si(capacity, 'B', 4)}{larger}")
        if model.quantization is not None:
            notes.append(self._quantisation_note(model.quantization, formats))
        if model.vocab % spec.tensor_parallel:
            padded = -(-model.vocab // spec.tensor_parallel) * spec.tensor_parallel
            notes.append(f"vocabulary of {model.vocab} padded to {padded} for {spec.tensor_parallel} ranks")
        if model.mla is None and model.kv_heads < spec.tensor_parallel:
            notes.append(
                f"each of {model.kv_heads} key-value heads is held by {spec.tensor_parallel // model.kv_heads} ranks"
            )
        if model.tower is not None and not spec.images:
            notes.append("the tower of images is left out: 'images' says how many each prompt has")
        if spec.images:
            notes.append(
                f"{spec.images} images a prompt, of {spec.patches} positions and {spec.image_tokens} tokens each"
            )
        if model.distance_buckets:
            notes.append("what positions add to the scores of attention is weighed, not timed")
        longest = max(int(np.max(step.kv_len)) for step in passes)
        if longest > model.max_positions:
            notes.append(
                f"sequences of {longest} tokens are longer than the {model.max_positions} positions "
                f"that '{model.name}' was made for"
            )
        if model.moe is not None:
            notes.append(self._routing_note(model.moe))
        if spec.mtp_acceptance is not None:
            notes.append(
                f"each decode step checks one drafted token, of which {spec.mtp_acceptance:g} is "
                "accepted on average; the cache grows by that average"
            )
        if spec.lengths is not None:
            rounding = (
                "" if spec.lengths.bucket == 1 else (f"; lengths are rounded up to multiples of {spec.lengths.bucket}")
            )
            notes.append(
                f"all requests start together, each leaves the batch when it has its tokens, none joins later{rounding}"
            )
        return notes

    def _quantisation_note(self, stored: QuantizationSpec, formats: Formats) -> str:
        taken = f"{formats.weight} in place of {stored.method}'s"
        if self.spec.weight_dtype is None:
            scales = (
                f", {stored.scale_bits} bits of scales for each {stored.group or 'column'}" if stored.scales else ""
            )
            taken = f"as {stored.method} stores them{scales}"
        kept = ["embeddings", "LM head", *(part.replace("_", " ") for part in stored.kept)]
        return f"weights of layers are {taken}; {', '.join(kept)} and routers are {formats.table}"

    def _routing_note(self, moe: MixtureSpec) -> str:
        spec = self.spec
        how = {
            "balanced": "evenly",
            "uniform": "uniformly",
            "zipf": f"by a Zipf law of exponent {spec.routing.skew:g}",
            "dirichlet": f"by a Dirichlet law of concentration {spec.routing.skew:g}",
            "table": f"as recorded in {spec.routing.path}",
        }[spec.routing.kind]
        sampled = spec.routing.sample and spec.routing.kind != "balanced"
        drawn = f", drawn with seed {spec.seed}" if sampled else ""
        note = (
            f"tokens visit {moe.experts_per_token} of {moe.experts} experts {how}{drawn}; "
            "a layer's loads are the same in every step of a phase"
        )
        if spec.routing.capacity_factor is not None:
            note += f"; what exceeds {spec.routing.capacity_factor:g} times an expert's even share is dropped"
        if spec.expert_parallel > 1:
            note += f"; {spec.expert_parallel} ranks are folded onto the busiest one of each layer"
        return note
