"""Checks of options, for the commands of other packages, too."""

from sonoedge.train.config.checks import check_new_run, check_ranges
from sonoedge.train.config.options import PIXEL_RANGE, SEED_RANGE

__all__ = ["PIXEL_RANGE", "SEED_RANGE", "check_new_run", "check_ranges"]
