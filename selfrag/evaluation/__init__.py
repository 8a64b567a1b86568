"""Evaluation of runs: metrics with intervals, comparison of two runs, and thresholds fitted on labelled questions."""
