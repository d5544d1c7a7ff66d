"""What every engine answers that copies between memories."""

from __future__ import annotations

from abc import abstractmethod

from archsim.model.component import Component, S
from archsim.workloads.dims import Dim


class Copier(Component[S]):
    """An engine that copies beside the compute; its action is ``copy_byte``."""

    @property
    @abstractmethod
    def both_ways(self) -> bool:
        """Whether copies towards the chip's engines and away from them do not wait for each other."""

    @property
    def chunk_ticks(self) -> int:
        """Time of a descriptor, after which it turns to another queue; 0: copies follow each other as a whole."""
        return 0

    @abstractmethod
    def copy_ticks(self, n_bytes: Dim) -> Dim:
        """Time it needs for one copy of ``n_bytes``."""
