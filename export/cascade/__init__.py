"""A cheap model in front of a full one: the fit, what it is measured by, the bundle."""
