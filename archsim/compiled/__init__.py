"""Kernels: what is compiled, how, and where compiled versions are kept."""
