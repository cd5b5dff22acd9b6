"""Measuring candidates, each in a process of its own: plans, workers, latency, the machine."""
