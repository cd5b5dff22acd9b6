"""A cheap model in front of a full one: the fit, the measurements, the bundle."""

AGREEMENT = 0.995
"""Share of the full model's decisions that a cascade keeps, if nothing else is asked for."""
