"""What a benchmark leaves behind as JSON, described and checked by dataclasses."""
