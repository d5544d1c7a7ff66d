"""Networks of routers, flit by flit and cycle by cycle: virtual channels, credits, allocators."""
