"""The port of any memory: by commands where it is timed so, else at its sustained bandwidth."""

from __future__ import annotations

from archsim.components.memory.analytic_port import AnalyticPort
from archsim.components.memory.dram import Dram
from archsim.components.memory.port import Arbitration, Port
from archsim.errors import wrong
from archsim.model.memory import Memory
from archsim.spec import ComponentSpec


def port_of(memory: Memory[ComponentSpec], arbitration: Arbitration, updates: bool = False) -> Port:
    """A port, with nothing in its queue.

    Parameters
    ----------
    updates: what is written is added to what is there, in the banks.

    Raises
    ------
    InputError: a DRAM by commands that has no timing of updates, or whose controller plays one stream at a time; a
        threshold beyond what the memory's queue holds.
    """
    port = _port(memory, arbitration, updates)
    if arbitration.threshold is not None and arbitration.threshold > port.places:
        raise wrong(
            "threshold", f"{arbitration.threshold} is beyond the {port.places} requests that the memory's queue holds"
        )
    return port


def _port(memory: Memory[ComponentSpec], arbitration: Arbitration, updates: bool) -> Port:
    if isinstance(memory, Dram) and (played := memory.played_channel(updates)) is not None:
        from archsim.components.memory.command_level.port import CommandPort

        return CommandPort(memory.time, arbitration, *played)
    return AnalyticPort(memory.time, arbitration, memory.bytes_per_s)
