"""A link: one direction of a wire bundle between two devices, with its latency, framing and energy.

Time to move n bytes is serialisation (wire bytes over bandwidth, rounded up to a tick once) and then latency,
which no byte escapes. Framing turns n bytes of payload into n plus one overhead per started packet. A sender may need
time of its own for each message (LogGP's gap): many small messages are then slower than one of their bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import model_validator

from archsim.model.component import Component
from archsim.model.technology import Technology
from archsim.spec import ComponentSpec, Count, Share
from archsim.timebase import Timebase
from archsim.units import Bytes, BytesPerSecond, JoulesPerBit, Picoseconds, SquareMillimetres
from archsim.workloads.dims import Dim, ceil_div, maximum


class LinkSpec(ComponentSpec):
    """A link as it is sold: figures of one direction."""

    kind: Literal["link"] = "link"
    bandwidth: BytesPerSecond
    """bytes per second of one lane bundle in one direction, framing included"""
    latency: Picoseconds
    """from the last bit sent to the last bit received: propagation, SerDes, link layer"""
    count: Count = 1
    """parallel links over which every message is striped evenly"""
    efficiency: Share = 1.0
    """share of the bandwidth that transfers reach beside framing (flow control, protocol), as measured"""
    payload: Bytes | None = None
    """largest payload of a packet; no framing is counted when absent"""
    overhead: Bytes | None = None
    """header, check and idle bytes of a packet"""
    duplex: Literal["full", "half"] = "full"
    """whether both directions carry at once, or take turns message by message"""
    credits: Bytes | None = None
    """bytes that may be under way until the other end, which frees them as they come, grants more; all when absent"""
    message_gap: Picoseconds = 0
    """time that each message keeps its sender besides its bytes: posting and completing it"""
    energy: JoulesPerBit | None = None
    """energy per bit on the wire, both ends; the technology entry ``signalling`` when absent"""
    area: SquareMillimetres | None = None
    """PHY and controller of one end of one link; the technology entry ``signalling`` when absent"""
    signalling: str = "link"
    """entry of the technology table that prices a bit and a PHY of this kind of link"""

    @model_validator(mode="after")
    def _framing(self) -> LinkSpec:
        if (self.payload is None) != (self.overhead is None):
            raise ValueError("'payload' and 'overhead' of a packet come together")
        if self.payload == 0:
            raise ValueError("'payload' is zero: a packet carries at least one byte")
        if self.credits == 0:
            raise ValueError("'credits' is zero: nothing could be sent")
        return self

    @property
    def wire_bytes_per_s(self) -> float:
        """Bytes per second with framing that it carries for long: what it sends, or its credits in each round trip."""
        rate = self.bandwidth * self.count * self.efficiency
        return rate if self.credits is None or not self.latency else min(rate, self.credits / (2e-12 * self.latency))


class Link(Component[LinkSpec]):
    """One direction of a link in a run's timebase."""

    kind: ClassVar[str] = "link"
    Spec: ClassVar[type[ComponentSpec]] = LinkSpec

    def __init__(self, spec: LinkSpec, path: str, time: Timebase, clock_hz: int = 10**9) -> None:
        super().__init__(spec, path, time, clock_hz)
        self.bytes_per_s = max(1, round(spec.bandwidth * spec.count * spec.efficiency))
        self.latency = int(time.ps(spec.latency))
        self.message_gap = int(time.ps(spec.message_gap))

    def wire_bytes(self, n_bytes: Dim) -> Dim:
        """Bytes on the wire that carry ``n_bytes`` of payload."""
        if self.spec.payload is None or self.spec.overhead is None:
            return n_bytes
        return n_bytes + -(-n_bytes // self.spec.payload) * self.spec.overhead

    def serialization(self, n_bytes: Dim) -> Dim:
        """Ticks from the first to the last byte of a message of ``n_bytes`` of payload on an idle link.

        With too few credits a burst of them goes out in each round trip, the rest of the message in the last one.
        """
        wire = self.wire_bytes(n_bytes)
        if self.starved:
            bursts = maximum(wire - 1, 0) // (self.spec.credits or 1)
            return bursts * self._round_trip + self._sent(wire - bursts * (self.spec.credits or 1)) + self.message_gap
        return self._sent(wire) + self.message_gap

    def occupancy(self, n_bytes: Dim) -> Dim:
        """Ticks after which the next message may follow: as serialisation, or until its credits have come back."""
        if not self.starved:
            return self.serialization(n_bytes)
        return ceil_div(self.wire_bytes(n_bytes) * self._round_trip, self.spec.credits or 1) + self.message_gap

    @property
    def starved(self) -> bool:
        """Whether credits take longer to come back than to be sent."""
        return self.spec.credits is not None and int(self._sent(self.spec.credits)) < self._round_trip

    @property
    def _round_trip(self) -> int:
        return 2 * self.latency

    def _sent(self, wire_bytes: Dim) -> Dim:
        return self.time.transfer(wire_bytes, self.bytes_per_s)

    def transfer(self, n_bytes: Dim) -> Dim:
        """Ticks until the last of ``n_bytes`` has arrived over an idle link."""
        return self.serialization(n_bytes) + self.latency

    def joules_per_byte(self, technology: Technology) -> float:
        """Energy of a byte on the wire, J."""
        per_bit = self.spec.energy
        return 8.0 * (technology.energy_per_bit_j(self.spec.signalling) if per_bit is None else per_bit)

    def energy_per_action(self, technology: Technology) -> Mapping[str, float]:
        return {"link_byte": self.joules_per_byte(technology)}

    def area_mm2(self, technology: Technology) -> Mapping[str, float]:
        one = technology.area_mm2(self.spec.signalling) if self.spec.area is None else self.spec.area
        return {"phy": one * self.spec.count}
