"""Data acquisition: sources of events, links, triggers that reject, storage."""
