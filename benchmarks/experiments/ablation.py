"""`cross_validate`: an ablation table by grouped cross-validation, and what a leaky split pretends."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sonoedge.edge_runtime.errors import DataError, UsageError
from sonoedge.edge_runtime.files import write_text_atomic
from sonoedge.edge_runtime.words import INTENDED_USE
from sonoedge.train.arguments import names_in, path_of
from sonoedge.train.commands.options import PIXEL_RANGE, SEED_RANGE, check_ranges
from sonoedge.train.terminal import LOG

if TYPE_CHECKING:
    from sonoedge.benchmarks.experiments.cross_validation import Line, Pair
    from sonoedge.train.experiments.cross_validation import FoldsBy, OutOfFold

StrPath = str | os.PathLike[str]


@dataclass(frozen=True)
class Ablation:
    """A table of rows under one or two kinds of split.

    Attributes:
        path: folder of ablation.md, ablation.html, ablation.json and the folds.
        facts: images, weights, folds and seed, in a line.
        rows: figures of each row under each split.
        pairs: each row against the first, and one split against the other.
        out_of_fold: logits of every image by a model that was not trained on it.
        images: relative paths, in the order of the logits.
    """

    path: Path
    facts: str
    rows: tuple[Line, ...]
    pairs: tuple[Pair, ...]
    out_of_fold: tuple[OutOfFold, ...] = field(repr=False)
    images: tuple[str, ...] = field(repr=False)

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    def __str__(self) -> str:
        from sonoedge.benchmarks.experiments.cross_validation import markdown

        return markdown(self.rows, self.pairs, self.facts)

    def to_json(self) -> dict[str, Any]:
        """What ablation.json holds: plain JSON types; undefined figures are null."""
        from sonoedge.train.evaluation.intervals import without_nan

        body: dict[str, Any] = without_nan(
            {
                "facts": self.facts,
                "rows": [asdict(line) for line in self.rows],
                "pairs": [{**asdict(pair), "verdict": pair.verdict} for pair in self.pairs],
                "out_of_fold": [
                    {
                        "row": o.row,
                        "split": o.split,
                        "logits": o.logits.tolist(),
                        "stress": None if o.stress is None else o.stress.tolist(),
                    }
                    for o in self.out_of_fold
                ],
                "images": list(self.images),
                "intended_use": INTENDED_USE,
            }
        )
        return body


def cross_validate(
    data: StrPath | Sequence[StrPath],
    *,
    out: StrPath,
    classes: str | Sequence[str] | None = None,
    groups: StrPath | None = None,
    weights: StrPath = "imagenet",
    rows: str | Sequence[str] | None = None,
    split: str | Sequence[str] = "grouped",
    leave_one_source_out: bool = False,
    folds: int = 5,
    stress: bool = True,
    input_size: int | None = None,
    screen: bool = False,
    seed: int = 0,
    cache: StrPath | None = None,
    progress: bool = False,
) -> Ablation:
    """Run the missing folds and write the table. Choose by it, and never by an external set.

    Args:
        data: labelled images, as for `train`; several folders are several sources.
        out: folder of the table; finished folds in it are kept.
        classes: two class names, the positive one last.
        groups: groups.csv of an audit.
        weights: ``imagenet``, ``none`` or a folder.
        rows: rows of the table, the first is the baseline; None for all on frozen features.
        split: ``grouped``, ``paper`` (single images, which leaks) or both.
        leave_one_source_out: in place of ``split`` and ``folds``: test on each source by a model that has seen the
            others.
        folds: 2 to 100.
        stress: also test on augmented copies, for which all backbones run once more.
        input_size: pixels; None leaves it to each row.
        screen: a first look: rows that train all layers do so at 128 pixels for 6 epochs.
        seed: of folds and fits.
        cache: feature cache, as for `train`.
        progress: show bars.

    Raises:
        DataError: the images cannot be read, are not of two classes, or a class has too few groups.
        MissingExtraError, ModelError: the weights cannot be had.
        UsageError: an option does not fit.
    """
    splits = [name.strip() for name in names_in(split) if name.strip()]
    if not splits or set(splits) - {"grouped", "paper"} or len(set(splits)) != len(splits):
        raise UsageError(f"--split takes grouped, paper or both. Received: {split!r}.")
    by: list[FoldsBy] = ["sources"] if leave_one_source_out else cast("list[FoldsBy]", splits)
    check_ranges(
        ("--folds", folds, 2, 100),
        ("--input-size", input_size or PIXEL_RANGE[0], *PIXEL_RANGE),
        ("--seed", seed, *SEED_RANGE),
    )
    target = Path(out)
    if target.exists() and not target.is_dir():
        raise UsageError(f"{target} exists and is not a folder.")
    from sonoedge.train.quiet import quiet

    with quiet():
        from sonoedge.benchmarks.experiments.cross_validation import lines_of, page, pairs_of
        from sonoedge.train.data.sources import load_sources
        from sonoedge.train.experiments.cross_validation import cross_validate as run_folds
        from sonoedge.train.experiments.rows import SCREEN, parse_rows
        from sonoedge.train.features.cache import default_cache
        from sonoedge.train.records.settings import TrainSettings

    chosen = parse_rows(rows if rows is None or isinstance(rows, str) else ",".join(rows))
    dataset = load_sources(data, classes=names_in(classes) or None, groups=path_of(groups), progress=progress)
    if len(dataset.labels) != 2:
        raise DataError(
            f"The classifier is binary. Classes: {', '.join(dataset.labels)}; choose two with --classes."
        )
    settings = TrainSettings("", weights=os.fspath(weights), seed=seed)
    found = run_folds(
        dataset, chosen, by, settings, target, folds=folds, stress=stress,
        input_size=input_size, screen=screen,
        cache=path_of(cache) or default_cache(), progress=progress, say=LOG.info,
    )  # fmt: skip
    count = f"one of {len(dataset.sources)} sources left out" if leave_one_source_out else f"{folds} folds"
    facts = (
        f"{dataset.name}: {len(dataset)} images in {len(set(dataset.groups))} groups, digest "
        f"{dataset.digest[:16]}; weights {Path(weights).name}, {count}, seed {seed}"
        + (f", {input_size} pixels" if input_size else "")
        + (f", all layers at {SCREEN['input_size']} pixels for {SCREEN['epochs']} epochs" if screen else "")
    )
    lines, pairs = tuple(lines_of(dataset, found)), tuple(pairs_of(dataset, found))
    images = tuple(sample.relative_path for sample in dataset.samples)
    table = Ablation(target, facts, lines, pairs, tuple(found), images)
    write_text_atomic(target / "ablation.json", json.dumps(table.to_json(), indent=1, allow_nan=False) + "\n")
    write_text_atomic(target / "ablation.md", str(table))
    write_text_atomic(target / "ablation.html", page(lines, pairs, facts))
    return table
