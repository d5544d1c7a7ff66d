"""A router that follows what caches hold, as long as nobody is left behind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

from pydantic import Field

from archsim.serving.service import Replica, least_loaded
from archsim.spec import Spec
from archsim.workloads.kv_blocks import BLOCK_TOKENS
from archsim.workloads.sequences import Served


class PrefixAwareSpec(Spec):
    """When caches count. Usual are those of SGLang's model gateway."""

    share: Annotated[float, Field(ge=0, le=1)] = 0.3
    """of a prompt, more than which must be found"""
    apart: Annotated[int, Field(ge=0)] = 64
    """requests that the busiest replica may have more than the idlest"""
    ratio: Annotated[float, Field(ge=1)] = 1.5
    """and times as many: where it has more by both, the idlest one is next"""


class PrefixAware:
    """Where most of a prompt is found, in whatever memory; among equals the least loaded.

    The least loaded where too little is found, or one replica has by far the most to do: the two steps of SGLang's
    cache-aware policy (lightseekorg/smg, docs/getting-started/load-balancing.md).
    """

    Spec: ClassVar[type[PrefixAwareSpec]] = PrefixAwareSpec

    def __init__(self, spec: PrefixAwareSpec) -> None:
        self.spec = spec

    def __call__(self, replicas: Sequence[Replica], request: Served) -> int:
        """The first of those that are best."""
        loads = [replica.load for replica in replicas]
        least, most = min(loads), max(loads)
        if most - least > self.spec.apart and most > self.spec.ratio * least:
            return least_loaded(replicas, request)
        found = [replica.found(request) for replica in replicas]
        if max(found) * BLOCK_TOKENS <= self.spec.share * request.input:
            return least_loaded(replicas, request)
        return max(range(len(replicas)), key=lambda i: (found[i], -loads[i]))
