"""Engines that run a model in this process, batched by one scheduler."""
