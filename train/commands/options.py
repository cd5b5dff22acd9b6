"""Options of the workstation's commands in the same words everywhere, and checks before anything heavy is imported.

Options that commands on the device have, too, are in `edge_runtime.commands.options`.
"""

from pathlib import Path

from sonoedge.edge_runtime.commands.options import Arguments, Option, old_spelling
from sonoedge.train.config.checks import check_new_run, check_ranges
from sonoedge.train.config.options import PIXEL_RANGE, SEED_RANGE

__all__ = [
    "AUGMENT",
    "BATCH_SIZE",
    "CASES",
    "EPOCHS",
    "FORMAT",
    "GROUPS",
    "INPUT_SIZE",
    "LEARNING_RATE",
    "OVERWRITE",
    "PIXEL_RANGE",
    "SEED",
    "SEED_RANGE",
    "TEACHER",
    "WEIGHTS",
    "add_feature_cache",
    "check_new_run",
    "check_ranges",
]

AUGMENT = Option("--augment", "augmented copies per training image", "N", int)
BATCH_SIZE = Option("--batch-size", "training images a step", "N", int)
CASES = Option("--cases", "simulated cases per class", "N", int)
EPOCHS = Option("--epochs", "times that every training image is seen", "N", int)
FORMAT = Option("--format", "formats of the artifacts, or all", "A,B|all")
GROUPS = Option("--groups", "groups.csv of an audit", "FILE")
INPUT_SIZE = Option("--input-size", "side of the input image", "PIXELS", int)
LEARNING_RATE = Option("--learning-rate", "step size of the optimiser", "RATE", float)
OVERWRITE = Option("--overwrite", "replace an existing run")
SEED = Option("--seed", "random seed", "N", int)
TEACHER = Option("--teacher", "finished run folder", "RUN", Path)
WEIGHTS = Option("--weights", "weights of the backbones", "imagenet|none|DIR")


def add_feature_cache(parser: Arguments, here: str = "", *, old: str | None = None) -> None:
    """Add ``--feature-cache``; None stands for the user's cache. ``old`` is an earlier name of the option."""
    dest = old.lstrip("-") if old else "feature_cache"
    action = Option("--feature-cache", "cached features of frozen backbones", "DIR", Path).add(
        parser, here, shown="~/.cache/sonoedge/features", dest=dest
    )
    if old:
        old_spelling(parser, old, action)
