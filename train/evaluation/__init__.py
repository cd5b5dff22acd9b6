"""Metrics, intervals, thresholds, subgroups and figures of a run, and the run folder."""
