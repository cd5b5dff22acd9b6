"""Measurements that run on the device itself: NumPy and edge_runtime only."""
