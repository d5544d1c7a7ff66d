"""How long the kernels of a step take on a GPU: each shape once, many shapes at a time."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from archsim.components.compute.gpu_attention import AttentionShape
from archsim.components.compute.gpu_chip import Floats
from archsim.components.compute.gpu_gemm import gemm
from archsim.components.compute.gpu_training import (
    TrainingKernelsSpec,
    attention,
    attention_library,
    stream,
    with_lanes,
)
from archsim.config import load_spec
from archsim.errors import InputError
from archsim.kernels import Gpu, gpu_of
from archsim.machine import ChipSpec
from archsim.workloads.step.layer import NARROW
from archsim.workloads.step.work import Exchange, Flash, Kernel, Product, Rows, Work, flops

PS = 10**12
_TIMED = {"product": "_products", "flash": "_attention", "rows": "_streams"}


@functools.cache
def kernels_of_training() -> TrainingKernelsSpec:
    """The kernels of training of a vendor's libraries."""
    return load_spec("libraries", TrainingKernelsSpec, category="training_kernels")


class Timer:
    """Times of works on a chip.

    Parameters
    ----------
    chip: a GPU with kernel parameters.

    Raises
    ------
    InputError: it has none.
    """

    def __init__(self, chip: ChipSpec) -> None:
        gpu = gpu_of(chip)
        lanes = sum(getattr(part, "lanes", 0) for part in chip.engines.values() if part.kind == "vector_unit")
        self.spec = chip
        self.training = kernels_of_training()
        lanes = round(lanes * self.training.lanes.get(gpu.chip.instruction, 1.0))
        # What a kernel alone would draw is no matter: the power cap bounds the mean of a layer (see slowdown).
        self.gpu = Gpu(replace(with_lanes(gpu.chip, lanes), power_cap_w=None), gpu.kernels)
        self.power_cap_w = gpu.chip.power_cap_w
        if gpu.kernels.gemm is None:
            raise InputError(f"chip '{chip.name}' has no kernels of products: it cannot train")
        self.products = self.training.with_formats(gpu.kernels.gemm)
        self._known: dict[Work, int] = {}

    @property
    def memory_bytes(self) -> int:
        """Capacity of the GPU's memory."""
        return int(getattr(list(self.spec.memories.values())[-1], "capacity", 0))

    def peak_flops(self, dtype: str) -> float:
        """FLOP/s of the data sheet's clock in a format, dense."""
        rate = {"mxfp8": "fp8", "nvfp4": "fp4"}.get(dtype, dtype)
        return 2.0 * self.gpu.chip.rate(rate) * self.gpu.chip.sms * self.gpu.chip.clock_hz

    def energy_j(self, work: Work) -> float:
        """Of the FLOPs of a product or of attention at full clock."""
        match work:
            case Product():
                return flops(work) * self._flop_j(work.dtype) * self.training.activity
            case Flash():
                power = self.gpu.kernels.power
                share = 1.0 if power is None else power.attention_flop_share
                return flops(work) * self._flop_j("bf16") * share * self.training.activity
            case _:
                return 0.0

    def joules(self, work: Work, slowdown: float) -> float:
        """Of a kernel beside the idle board's; 0 where the chip's power is not known."""
        if self.power_cap_w is None:
            return 0.0
        if not isinstance(work, Rows):
            return self.energy_j(work) / slowdown**2
        chip, power, seconds = self.gpu.chip, self.gpu.kernels.power, self.ps(work) / PS
        whole_j = seconds * self.training.stream_power * self.power_cap_w
        memory_j = 0.0 if power is None else min(whole_j, 1e-12 * power.memory_byte_pj * work.bytes)
        return memory_j + (whole_j - memory_j) * chip.voltage**3  # the die's power goes with the clock, which V follows

    @functools.cache  # noqa: B019  (a timer is kept as long as its chip is asked for)
    def _flop_j(self, dtype: str) -> float:
        wide = self.training.flop_energy.get(dtype)
        return (
            float(self.gpu.kernels.flop_j(self.gpu.chip) * wide)
            if wide
            else self.gpu.kernels.flop_j(self.gpu.chip, dtype)
        )

    def slowdown(self, flop_j: float, stream_j: float, seconds: float) -> float:
        """Of the clock under the power cap.

        Parameters
        ----------
        flop_j: energy of what multiplies. stream_j: of streams. seconds: that both take, and pauses.
        """
        gemm = self.gpu.kernels.gemm
        if self.power_cap_w is None or gemm is None or not seconds:
            return 1.0
        over = (flop_j + stream_j) / seconds / (self.power_cap_w * gemm.usable_power)
        return float(max(1.0, over) ** gemm.throttle_exponent)

    def learn(self, works: Iterable[Work]) -> None:
        """Time those that are not known, all of a kind at once."""
        kinds: dict[tuple[object, ...], list[Work]] = defaultdict(list)
        for work in set(works):
            if work in self._known:
                continue
            match work:
                case Product():
                    kinds["product", work.dtype, work.out_bytes, work.experts].append(work)
                case Flash():
                    kinds["flash", work.backward, work.causal, work.dtype, work.library].append(work)
                case Rows():
                    kinds["rows", work.family, work.element].append(work)
                case Exchange():
                    raise TypeError("exchanges are timed by the network")
        for kind, some in kinds.items():
            seconds = getattr(self, _TIMED[str(kind[0])])(some)
            self._known |= {work: round(s * PS) for work, s in zip(some, seconds.tolist(), strict=True)}

    def ps(self, work: Work) -> int:
        """Picoseconds of a work."""
        if work not in self._known:
            self.learn([work])
        return self._known[work]

    def _products(self, works: Sequence[Product]) -> Floats:
        chip, spec = self.gpu.chip, self.products
        first = works[0]
        name = first.dtype
        if name in NARROW:
            self.gpu.chip.check("fp4" if name == "nvfp4" else "fp8")
            base = spec.formats["fp8"]
            form = base.model_copy(
                update={
                    "multiplies": "fp4" if name == "nvfp4" else "fp8",
                    "left_bytes": NARROW[name],
                    "right_bytes": NARROW[name],
                    "around_us": 0.0,
                    "quantise_efficiency": None,
                    "pad_us": 0.0,
                    "outside_cycles": self.training.narrow_outside,
                }
            )
            spec = spec.model_copy(update={"formats": {**spec.formats, name: form}})
        sizes = (np.array([float(getattr(work, side)) for work in works]) for side in ("m", "k", "n", "groups"))
        m, k, n, groups = sizes
        best = gemm(chip, spec, name, m, k, n, groups, out_bytes=first.out_bytes)
        return best.seconds

    def _attention(self, works: Sequence[Flash]) -> Floats:
        chip = self.gpu.chip

        def column(name: str) -> Floats:
            return np.array([float(getattr(work, name)) for work in works])

        window = np.array([np.inf if work.window is None else float(work.window) for work in works])
        shape = AttentionShape.of(
            column("batch"),
            column("heads"),
            column("kv_heads"),
            column("head_dim"),
            column("queries"),
            column("keys") - column("queries")
            if works[0].causal
            else np.maximum(0, column("keys") - column("queries")),
            column("v_head_dim"),
            window,
            works[0].causal,
        )
        if not works[0].causal:
            shape = replace(shape, cached=column("keys")[:, None] - column("queries")[:, None])
        if works[0].dtype in ("fp32", "tf32"):
            rate = 2 * chip.rate("fp32") * chip.sms * chip.clock_hz * self.training.lane_attention
            return np.array([float(flops(work)) for work in works]) / rate + 1e-5
        library = attention_library(chip, self.training, works[0].library)
        spec = library.backward if works[0].backward else library.forward
        return attention(chip, spec, shape, works[0].backward)

    def _streams(self, works: Sequence[Rows]) -> Floats:
        sizes = np.array([float(work.bytes) for work in works])
        return stream(self.gpu.chip, self.training, works[0].family, sizes, works[0].element)


def works_of(kernels: Iterable[Kernel]) -> list[Work]:
    """What a GPU does of kernels."""
    return [kernel.work for kernel in kernels if not isinstance(kernel.work, Exchange)]


@functools.lru_cache(maxsize=64)
def timer_of(chip: str) -> Timer:
    """The timer of a shipped chip, or of one in a file."""
    return Timer(load_spec(chip, ChipSpec, category="chips"))
