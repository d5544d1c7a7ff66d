"""Pruned weights in SCALE-Sim v3, and the suite that answers them."""
