"""Measuring candidates: what is measured, each in a process of its own, on which machine."""
