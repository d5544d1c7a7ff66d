"""The kernels of a GPU vendor's libraries, and how kernels were measured.

A kernel model answers how long a kernel takes on the device. What a stopwatch shows on top of that depends on how it
was held: :class:`MeasurementSpec`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any

import numpy as np
from pydantic import Field, ValidationError

from archsim.components.compute.gpu_attention import AttentionKernelsSpec, AttentionShape
from archsim.components.compute.gpu_chip import Floats, GpuChip
from archsim.components.compute.gpu_elementwise import ElementwiseKernelsSpec
from archsim.components.compute.gpu_experts import ExpertKernelsSpec, GroupedKernel
from archsim.components.compute.gpu_gemm_spec import GemmKernelsSpec, flop_energy_j, process_energy
from archsim.components.compute.gpu_power import Activity, Energy, PowerSpec, energy
from archsim.config import load_spec
from archsim.errors import InputError, nearest
from archsim.spec import Count, Spec

NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]


class MeasurementSpec(Spec):
    """A way to time kernels."""

    about: str
    """who timed what, and how"""
    activity: Positive = 1.0
    """energy of the operands' bits beside that of random ones; decides when the power cap is reached"""
    operand_sets: Annotated[int, Field(ge=0)] = 0
    """sets of a product's operands that replays go through in turn: what all of them fit into stays in the L2; 0: the
    memory holds them"""
    library: str = ""
    """release whose kernels were timed, where a case names none; empty: the chip's"""
    hosted: tuple[str, ...] = ()
    """kernels that the host launches one by one, no graph"""
    tick_us: dict[str, Positive] = Field(default_factory=dict)
    """of the clock that times a kernel, which shows whole ones; by kernel"""
    gap_us: dict[str, NotNegative] = Field(default_factory=dict)
    """of the host around a kernel, added to it; by kernel (``gemm``, ``gemm fp8_block``, ``softmax``, ...)"""
    least_us: dict[str, NotNegative] = Field(default_factory=dict)
    """of the host to launch a kernel, however short the kernel is; by kernel"""
    meter_s: Positive | None = None
    """time constant of the power meter; None: it shows the kernel alone"""
    meter_launches: dict[str, Count] = Field(default_factory=dict)
    """launches of a run at most, during which the meter is read; by kernel"""
    meter_before_w: dict[str, NotNegative] = Field(default_factory=dict)
    """what the meter shows before a run; by kernel"""

    def of(self, table: Mapping[str, float], kernel: str, usual: float) -> float:
        """The entry of a kernel such as ``gemm fp8``, else of its first word, else the usual one."""
        return table.get(kernel, table.get(kernel.partition(" ")[0], usual))

    def read_w(self, kernel: str, watts: Floats, seconds: Floats) -> Floats:
        """What the meter shows of kernels that draw ``watts``, [kernels]."""
        if self.meter_s is None:
            return watts
        run_s = self.of(self.meter_launches, kernel, 1) * seconds
        before_w = self.of(self.meter_before_w, kernel, 0.0)
        shown: Floats = watts + (before_w - watts) * np.exp(-run_s / self.meter_s)
        return shown


class LibrarySpec(Spec):
    """A release of libraries: what its kernels do otherwise than the vendor's usual ones."""

    about: str
    """what it holds, and what its parameters were calibrated on"""
    on: dict[str, dict[str, Any]]
    """changes of the kernels' own keys, by instruction of the chip (``tcgen05``) or that and its process (``mma 4n``),
    which goes before"""


class GpuKernelsSpec(Spec):
    """Kernels of a vendor's libraries."""

    name: str
    """whose"""
    source: str
    """on what the parameters were calibrated"""
    gemm: GemmKernelsSpec | None = None
    """products"""
    attention: AttentionKernelsSpec | None = None
    """attention"""
    experts: ExpertKernelsSpec | None = None
    """layers of experts"""
    elementwise: ElementwiseKernelsSpec | None = None
    """row-wise functions"""
    power: PowerSpec | None = None
    """what they draw"""
    measurements: dict[str, MeasurementSpec] = Field(default_factory=dict)
    """ways to time them, by name"""
    measured: tuple[str, ...] = ()
    """names of the chips whose rows the parameters were calibrated on"""
    unseen_spread: Annotated[float, Field(ge=1)] = 1.4
    """of the logarithm of a band: how much wider it is on other chips; products of chips left out of a fit spread
    1.0 to 1.2 times as much as those in it, row-wise functions up to 1.7 times"""
    libraries: dict[str, LibrarySpec] = Field(default_factory=dict)
    """releases that can be asked for, such as ``vllm_0_22``"""
    default_library: dict[str, str] = Field(default_factory=dict)
    """the release that stands for a chip where none is named, by its instruction, or that and its process"""
    intervals: dict[str, tuple[float, float]] = Field(default_factory=dict)
    """95% confidence intervals of the calibrated parameters, by path"""
    bands: dict[str, tuple[float, float]] = Field(default_factory=dict)
    """measured over predicted time, 5th and 95th percentile over chips that a fit had not seen; by kernel"""
    widest_bands: dict[str, tuple[float, float]] | None = None
    """the widest of all releases, for chips without rows, whose host or release may differ as those do"""

    def on(self, instruction: str, process: str, library: str = "") -> GpuKernelsSpec:
        """The kernels of a release on a kind of tensor core; without a name those that stand for it.

        Raises
        ------
        InputError: there is no such release, it has nothing for this chip, or changes what is not there.
        """
        key = instruction, process, library
        if key not in self._released:
            self._released[key] = self._of(f"{instruction} {process}", instruction, library)
        return self._released[key]

    @cached_property
    def _released(self) -> dict[tuple[str, str, str], GpuKernelsSpec]:
        """What :meth:`on` has answered."""
        return {}

    def _of(self, exact: str, instruction: str, library: str) -> GpuKernelsSpec:
        if library:
            name = self.library_name(library)
        else:
            name = self.default_library.get(exact, self.default_library.get(instruction, ""))
        if not name:
            return self
        known = self.libraries[name].on
        if library and not known.keys() & {exact, instruction}:
            raise InputError(f"'{name}' has no kernels for '{instruction}': {nearest(instruction, known)}")
        data = self.model_dump(mode="json", exclude_none=True, exclude={"libraries", "default_library"})
        data["widest_bands"] = self._widest_bands()
        for place in (instruction, exact):
            data = merged(data, known.get(place, {}))
        return checked(data)

    def _widest_bands(self) -> dict[str, tuple[float, float]]:
        found: dict[str, tuple[float, float]] = {}
        changes = (change for library in self.libraries.values() for change in library.on.values())
        for bands in (self.bands, *(change.get("bands", {}) for change in changes)):
            for kernel, (low, high) in bands.items():
                least, most = found.get(kernel, (low, high))
                found[kernel] = min(least, low), max(most, high)
        return found

    def library_name(self, name: str) -> str:
        """The release of this name; ``vllm/0.22.1`` is ``vllm_0_22``.

        Raises
        ------
        InputError: it is not known.
        """
        plain = re.sub(r"[^a-z0-9]+", "_", name.lower())
        found = [known for known in self.libraries if f"{plain}_".startswith(f"{known}_")]
        if not found:
            raise InputError(f"no release of libraries is called '{name}': {nearest(plain, self.libraries)}")
        return max(found, key=len)

    def flop_j(self, chip: GpuChip, dtype: str = "bf16") -> float:
        """Energy of a FLOP of this format at full clock, J; 0 where no energies are known."""
        if self.gemm is None:
            return 0.0
        form = self.gemm.formats.get(dtype)
        return flop_energy_j(chip, self.gemm) * (1.0 if form is None else form.flop_energy_share)

    def attention_activity(self, chip: GpuChip, shape: AttentionShape, cache_bytes: float) -> Activity:
        """What attention spends energy on; ``cache_bytes``: of an element of the cache."""
        moved = shape.bytes(cache_bytes)
        if self.power is None or self.gemm is None:
            return Activity(0.0 * moved, moved, moved)
        element_j = 1e-12 * self.power.attention_element_pj * process_energy(chip, self.gemm)
        flop_j = self.power.attention_flop_share * self.flop_j(chip)
        return Activity(shape.flops() * flop_j + shape.stored * element_j, moved, moved)

    def experts_activity(self, chip: GpuChip, dtype: str, layer: GroupedKernel) -> Activity:
        """What experts of this format spend energy on."""
        share = 1.0 if self.power is None else self.power.expert_flop_share.get(dtype, 1.0)
        return Activity(layer.flops * self.flop_j(chip, dtype) * share, layer.memory_bytes, layer.memory_bytes)

    def energy(self, chip: GpuChip, done: Activity, seconds: Floats) -> Energy | None:
        """Energy of kernels; None where it is not known."""
        if self.power is None or self.gemm is None:
            return None
        return energy(chip, self.power, process_energy(chip, self.gemm), done, seconds)

    def band(self, kernel: str, chip: str = "") -> tuple[float, float] | None:
        """The band of a kernel such as ``gemm fp8``, else of its first word, on the chip of this name."""
        seen = chip in self.measured or not self.measured
        bands = self.bands if seen else self.bands | (self.widest_bands or {})
        band = bands.get(kernel) or bands.get(kernel.partition(" ")[0])
        return band if seen or band is None else (band[0] ** self.unseen_spread, band[1] ** self.unseen_spread)


def checked(data: Mapping[str, Any]) -> GpuKernelsSpec:
    """The kernels that a tree says.

    Raises
    ------
    InputError: with all that is wrong with it.
    """
    try:
        return GpuKernelsSpec.model_validate(data)
    except ValidationError:
        return load_spec(data, GpuKernelsSpec)  # which says in our words what is wrong


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """A tree with what another one changes."""
    tree = dict(below)
    for key, value in above.items():
        inner = tree.get(key)
        tree[key] = merged(inner, value) if isinstance(inner, Mapping) and isinstance(value, Mapping) else value
    return tree
