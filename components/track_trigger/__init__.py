"""Track and trigger: communication that starts when its data is stored (T3)."""
