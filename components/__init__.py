"""The hardware: one noun a file, spec and model together."""
