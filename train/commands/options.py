"""Options of the workstation's commands in the same words everywhere, and checks before anything heavy is imported.

Options that commands on the device have, too, are in `edge_runtime.commands.options`.
"""

from __future__ import annotations

from pathlib import Path

from sonoedge.edge_runtime.commands.options import Arguments, Option, old_spelling
from sonoedge.edge_runtime.errors import UsageError

SEED_RANGE = (0, 2**31 - 1)
PIXEL_RANGE = (32, 4096)
DEFAULT_COPIES = 2
"""Augmented copies of every training image, if nothing else is asked for: see docs/results/augmentation.md."""

AUGMENT = Option("--augment", "augmented copies per training image", "N", int)
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


def check_new_run(out: Path, *, overwrite: bool) -> None:
    """Check that a run folder may be written.

    Raises:
        UsageError: the folder holds a finished run, and ``overwrite`` is false.
    """
    if (out / "run.json").exists() and not overwrite:
        raise UsageError(f"{out} holds a finished run. Choose another --out, or --overwrite.")


def check_ranges(*options: tuple[str, float, float, float]) -> None:
    """Check values of options; each row holds name, value, smallest and largest value.

    Raises:
        UsageError: a value outside its range.
    """
    for name, value, low, high in options:
        if not low <= value <= high:
            raise UsageError(f"{name} must be from {low} to {high}. Received: {value}.")
