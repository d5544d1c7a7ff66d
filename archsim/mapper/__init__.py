"""Ops onto a machine: engine, dataflow and tiling by cost, and what each op holds for how long."""

from archsim.mapper.mapper import HOST, Mapper

__all__ = ["HOST", "Mapper"]
