"""Accuracy, size and latency of every artifact, compared with the full model."""
