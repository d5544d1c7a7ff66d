"""What a description of a row of servers may say."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from archsim.config import Named
from archsim.experiment import ExperimentSpec
from archsim.servers.policy import AnyPolicy
from archsim.spec import Count, Share, Spec
from archsim.units import Hertz, Picoseconds, Watts
from archsim.workloads.model import ModelSpec

Priority = Literal["high", "low"]


class ServedSpec(Spec):
    """Requests of one kind."""

    input: Count
    """tokens of a prompt"""
    output: Annotated[int, Field(ge=2, le=2**20)]
    """tokens of an answer"""
    batch: Count = 1
    """requests that a server takes together"""
    share: Share
    """of all requests"""
    priority: Priority
    """whose servers take them"""


class ArrivalsSpec(Spec):
    """When requests come: a day like the other, by chance within it."""

    utilisation: Annotated[float, Field(gt=0, lt=1)]
    """share of time that a server computes in the busiest hour, at full clock"""
    night: Share
    """rate in the quietest hour, beside that of the busiest"""
    busiest_hour: Annotated[float, Field(ge=0, lt=24)] = 14.0
    """of the day"""
    seed: Annotated[int, Field(ge=0, le=2**63)] = 0
    """of all draws"""
    source: str = ""
    """where the figures come from"""


class RowSpec(ExperimentSpec):
    """A row of equal servers on one power feed."""

    kind: Literal["server_row"] = "server_row"
    system: str
    """a server: shipped system or file"""
    set: dict[str, Any] = Field(default={})
    """changes of the system, such as ``chip: a100_sxm4_80g``"""
    model: Annotated[ModelSpec, Named("models")]
    """what it serves"""
    tensor_parallel: Count = 1
    """ranks of a server that share the model"""
    requests: Annotated[dict[str, ServedSpec], Field(min_length=1)]
    """kinds of requests by name; their shares sum to 1"""
    servers: Annotated[int, Field(ge=2, le=10_000)]
    """in the row"""
    high_priority: Share = 0.5
    """of the servers"""
    provisioned: Count
    """servers that the feed was laid out for, at their rating"""
    rating: Watts
    """of a server, as it was laid out"""
    rest: Watts
    """of a server beside its accelerators: fans, CPUs, NICs, losses"""
    arrivals: ArrivalsSpec
    """when requests come"""
    days: Annotated[int, Field(ge=1, le=366)]
    """how long"""
    telemetry: Picoseconds
    """between two readings of the row's mean power"""
    command: Picoseconds
    """from a command until clocks are set, out of band"""
    brake: Picoseconds
    """from the brake until all servers are at its clock"""
    brake_clock: Hertz
    """of all servers while the brake is pulled"""
    battery: Picoseconds
    """how long the feed carries more than its limit"""
    policy: AnyPolicy
    """who watches: two_thresholds (POLCA), one_threshold, gpu_dvfs, none, or one of another package"""
    compare: dict[str, AnyPolicy] = Field(default={})
    """other policies for the same requests, by name"""

    @model_validator(mode="after")
    def _check(self) -> RowSpec:
        total = sum(served.share for served in self.requests.values())
        if abs(total - 1) > 1e-9:
            raise ValueError(f"requests: shares sum to {total:g}, not to 1")
        if self.brake + self.telemetry > self.battery:
            raise ValueError(
                f"'brake' and 'telemetry' take {(self.brake + self.telemetry) / 1e12:g} s together, longer than the "
                f"battery carries the row ({self.battery / 1e12:g} s)"
            )
        if self.telemetry == 0:
            raise ValueError("'telemetry' is zero: readings need a time between them")
        if not 0 < round(self.servers * self.high_priority) < self.servers:
            raise ValueError("'high_priority' leaves one of the two kinds of servers without any")
        return self
