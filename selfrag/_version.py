"""The version of selfrag, and the only place that says it."""

__version__ = "0.2.0.dev0"
