"""Batches of questions: reading them, answering them, and an output file that survives a kill."""
