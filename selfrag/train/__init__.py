"""Preparing data for, training and measuring reflection models. Heavy libraries load only with `run` and `evaluate`."""
