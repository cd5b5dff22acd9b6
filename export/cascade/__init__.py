"""A cheap model in front of a full one: the fit, the measurements, the bundle."""
