"""How long collectives of GPU libraries take within a node, and between two: measured ways, the fastest taken.

A library has a few *ways* to do a collective (protocols on rings, one or two shots of direct reads, reduction in the
switch). Each takes a base time, a time for each further rank, and the bytes that it brings to a rank over the rate that
it reaches; the library takes the fastest, and a host that launches it in its own time sets a floor. The form is that
of the hardware; its figures are calibrated on measured tables, by interconnect and library
(``configs/collectives/gpu_libraries.yaml``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from archsim.errors import InputError, nearest
from archsim.spec import Spec
from archsim.units import BytesPerSecond, Picoseconds

Moves = Literal["one_shot", "two_shot", "share", "in_switch", "whole"]
"""What a way brings to each of n ranks of S bytes: all others' buffers, (n - 1) S; shares out and sums back,
2 (n - 1) S / n; each other's share, (n - 1) S / n; the buffer and a sum, (1 + 1 / n) S; S."""


class WaySpec(Spec):
    """One way to do a collective."""

    moves: Moves
    """what it brings to a rank"""
    base: Picoseconds
    """time of an empty one between two"""
    per_rank: Picoseconds
    """time of each further rank"""
    rate: dict[Annotated[int, Field(ge=2)], BytesPerSecond]
    """bytes that a rank takes in, by number of ranks; the next smaller number holds"""

    def seconds(self, n_bytes: int, ranks: int) -> float:
        """Of ``n_bytes`` over ``ranks``."""
        share = (ranks - 1) / ranks
        moved = {
            "one_shot": ranks - 1.0,
            "two_shot": 2 * share,
            "share": share,
            "in_switch": 1 + 1 / ranks,
            "whole": 1.0,
        }
        known = sorted(self.rate)
        rate = self.rate[max((n for n in known if n <= ranks), default=known[0])]
        return (self.base + self.per_rank * (ranks - 1)) * 1e-12 + moved[self.moves] * n_bytes / rate


class LibrarySpec(Spec):
    """A library's collective on one interconnect."""

    ways: Annotated[tuple[WaySpec, ...], Field(min_length=1)]
    """the fastest is taken; one that sums in the switch needs three ranks and no whole numbers"""
    host: Picoseconds = 0
    """time of the host to launch it, where it does and no graph"""
    blocks: Annotated[int, Field(ge=0, le=2**16)] = 0
    """SMs that its kernels hold, where others beside it miss them"""
    band: tuple[float, float]
    """measured over predicted, 5th and 95th percentile of rows that the fit had not seen"""

    def ways_of(self, ranks: int, whole_numbers: bool = False) -> list[WaySpec]:
        """Its ways for so many ranks."""
        return [way for way in self.ways if way.moves != "in_switch" or (ranks > 2 and not whole_numbers)]


class InterconnectSpec(Spec):
    """GPUs and how they are joined."""

    gpus: dict[str, BytesPerSecond]
    """names of devices that are joined so, and what their links carry each way"""
    measured: tuple[str, ...]
    """those whose rows the figures were calibrated on"""
    rate: BytesPerSecond
    """of the links of these; others' rates scale with theirs"""
    libraries: dict[str, dict[str, LibrarySpec]]
    """by library (``nccl``, ``vllm_graph``, ``sglang_eager_0_5_14``) and collective"""


class GpuLibrariesSpec(Spec):
    """Collectives of GPU libraries."""

    name: str
    """what it is called"""
    source: str
    """where the figures come from"""
    interconnects: dict[str, InterconnectSpec]
    """by name"""


class LibraryUseSpec(Spec):
    """Whose measured ways collectives within the innermost dimension take."""

    libraries: tuple[str, ...]
    """by name, such as ``vllm_graph``; the first one that has a collective"""
    device: str
    """on whose interconnect"""
    launch: Picoseconds = 0
    """until their kernels begin, where they run on a stream of their own, as PyTorch's do"""

    def interconnect(self, known: GpuLibrariesSpec) -> InterconnectSpec:
        """The device's interconnect, where some of the libraries may not have been measured.

        Raises
        ------
        InputError: nobody measured the device, or one of the libraries anywhere.
        """
        found = interconnect_of(known, self.device)
        if found is None:
            raise _unknown(known, self.device)
        names = {name for interconnect in known.interconnects.values() for name in interconnect.libraries}
        for library in self.libraries:
            if library not in names:
                raise InputError(f"no library is called '{library}': {nearest(library, names)}")
        return found[0]


@dataclass(frozen=True)
class LibraryTime:
    """How long a collective takes, with its 5% to 95% band; by which library and way."""

    seconds: float
    low_s: float
    high_s: float
    library: str
    way: Moves
    unseen: bool


_WIDER = 1.5
"""of the logarithm of a band: how much wider it is on devices that no fit has seen (assumed)"""


def library_name(implementation: str) -> str:
    """Our name of a library as tables write it: ``vLLM_custom_graph/... vllm/0.19.0`` is ``vllm_graph_0_19_0``."""
    text = implementation.casefold()
    if text.startswith("torch nccl"):
        nodes = re.search(r"devices_per_node=(\d+)", text)
        return f"pytorch_{nodes[1]}_per_node" if nodes else "pytorch"
    version = re.search(r"/(\d[\w.]*)", text.split(" ")[-1])
    suffix = "_" + re.sub(r"[^a-z0-9]+", "_", version[1]) if version else ""
    for name, keys in _NAMES.items():
        if all(key in text for key in keys):
            return name + suffix
    return re.sub(r"[^a-z0-9]+", "_", text).strip("_")


_NAMES = {
    "vllm_graph": ("vllm_custom", "graph"),
    "vllm_eager": ("vllm_custom", "eager"),
    "sglang_graph": ("sglang_custom", "graph"),
    "sglang_eager": ("sglang_custom", "eager"),
    "tensorrt_llm": ("trtllm",),
    "nccl": ("nccl",),
}


def interconnect_of(spec: GpuLibrariesSpec, device: str) -> tuple[InterconnectSpec, BytesPerSecond] | None:
    """The interconnect of a device and what its links carry, or None."""
    for interconnect in spec.interconnects.values():
        if device in interconnect.gpus:
            return interconnect, interconnect.gpus[device]
    return None


def _unknown(spec: GpuLibrariesSpec, device: str) -> InputError:
    known = [name for interconnect in spec.interconnects.values() for name in interconnect.gpus]
    return InputError(f"no interconnect of '{device}' is known: {nearest(device, known)}")


def time(
    spec: GpuLibrariesSpec, device: str, library: str, op: str, n_bytes: int, ranks: int, whole_numbers: bool = False
) -> LibraryTime:
    """A collective of a library on a device.

    Parameters
    ----------
    library: as :func:`library_name` gives it. n_bytes: as nccl-tests counts them. whole_numbers: whether it sums ints.

    Raises
    ------
    InputError: the device, the library or the collective is not known.
    """
    if ranks < 2:
        raise InputError(f"a collective needs at least two ranks, not {ranks}")
    found = interconnect_of(spec, device)
    if found is None:
        raise _unknown(spec, device)
    interconnect, carried = found
    names = [name for name in interconnect.libraries if f"{library}_".startswith(f"{name}_")]
    if not names:
        raise InputError(f"no library is called '{library}' on {device}: {nearest(library, interconnect.libraries)}")
    name = max(names, key=len)
    collectives: Mapping[str, LibrarySpec] = interconnect.libraries[name]
    if op not in collectives:
        raise InputError(f"'{name}' has no measured '{op}' on {device}: {nearest(op, collectives)}")
    chosen = collectives[op]
    ways = chosen.ways_of(ranks, whole_numbers)
    if not ways:
        raise InputError(f"'{name}' does '{op}' in the switch alone, of three ranks or more and no whole numbers")
    scaled = round(n_bytes * interconnect.rate / carried)
    way = min(ways, key=lambda way: way.seconds(scaled, ranks))
    seconds = max(way.seconds(scaled, ranks), chosen.host * 1e-12)
    unseen = device not in interconnect.measured
    low, high = (edge ** (_WIDER if unseen else 1.0) for edge in chosen.band)
    return LibraryTime(seconds, seconds * low, seconds * high, name, way.moves, unseen)
