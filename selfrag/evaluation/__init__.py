"""What runs are worth: figures with intervals, comparison of two runs, and thresholds fitted on labelled questions."""
