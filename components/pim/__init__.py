"""Processing in memory."""
