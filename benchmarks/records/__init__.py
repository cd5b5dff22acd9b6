"""The JSON files of a benchmark, described and checked by dataclasses."""
