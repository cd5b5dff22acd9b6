"""What was kept and what it costs: accuracy, size and latency of every artifact against the full model."""
