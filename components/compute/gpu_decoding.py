"""How long a GPU takes to decode weights that are stored as codewords of a dictionary, while it multiplies them.

A warp takes a codeword at a time: it loads the codeword, its entry in the dictionary, what the entry's codes stand for,
and the tokens' elements, and each lane adds a product. The dictionary lives in the L2. A kernel that multiplies one
token at a time decodes an expert again for each.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from archsim.components.compute.gpu_chip import Floats, GpuChip, of_instruction
from archsim.spec import Count, Spec

_SCHEDULERS = 4
"""of an SM, an instruction of a warp a cycle each"""
_SECTOR_BYTES = 32
"""what a load from the L2 brings at least"""

Positive = Annotated[float, Field(gt=0)]


class DecodingSpec(Spec):
    """A kernel that decodes; all per codeword, which a warp takes alone."""

    accesses: Count
    """loads of a warp, from shared memory and the L1, which an SM serves one a cycle"""
    instructions: Count
    """of a warp"""
    latency_cycles: Positive
    """from the load of a codeword to its products"""
    in_flight: Count
    """codewords that an SM works on at a time"""
    source: str
    """where they are from, and which are assumed"""

    def seconds(self, chip: GpuChip, feed_bytes_per_cycle: dict[str, float], codewords: Floats) -> Floats:
        """Seconds for so many codewords, [shapes], the evenest over the SMs.

        Parameters
        ----------
        feed_bytes_per_cycle: that an SM receives from the L2; by instruction.

        Raises
        ------
        InputError: there is none for the chip's instruction.
        """
        looked_up = _SECTOR_BYTES / of_instruction(feed_bytes_per_cycle, chip, "feed_bytes_per_cycle")
        issued, waited = self.instructions / _SCHEDULERS, self.latency_cycles / self.in_flight
        cycles = max(float(self.accesses), issued, looked_up, waited)
        done: Floats = codewords * cycles / (chip.sms * chip.clock_hz)
        return done
