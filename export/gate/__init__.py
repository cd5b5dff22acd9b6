"""The out-of-domain gate of a bundle: its images, features, views, and the fit."""
