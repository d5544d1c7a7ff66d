"""Networks of routers, flit by flit and cycle by cycle: virtual channels, credits, allocators."""

LOAD = "injection_rate_flits_per_node_cycle"
"""The cell that makes a row of a table one of routers"""
