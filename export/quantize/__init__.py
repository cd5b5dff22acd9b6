"""Calibration, activation ranges, recipes, and the quantizers of both runtimes."""
