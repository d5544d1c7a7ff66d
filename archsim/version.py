"""The version of archsim; part of every result and of the key of every sweep point."""

__version__ = "0.1.0"
