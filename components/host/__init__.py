"""Processors that run beside accelerators and give them work."""
