"""This device: what is missing or slow, latency, replay of golden vectors, profiles, counters."""
