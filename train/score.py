"""``sonoedge score``: a finished run on other images, by subgroup, and every scoring written down.

An external set is for measuring, not for choosing: the log in the run folder tells how often it was looked at.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_runtime.bundle import INTENDED_USE
from edge_runtime.errors import UsageError
from edge_runtime.files import write_text_atomic

if TYPE_CHECKING:
    from train.data import Dataset
    from train.run_folder import Run

LOG = "scorings.jsonl"
_SHOWN = ("accuracy", "auc", "sensitivity", "specificity", "brier")
_SIZES = (
    (0.0, 0.05, "lesion below 5 % of the image"),
    (0.05, 0.15, "lesion 5–15 %"),
    (0.15, 1.01, "lesion above 15 %"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("--model", type=Path, required=True, metavar="RUN", help="run folder")
    parser.add_argument("--data", required=True, metavar="DIR", help="labelled images of the same classes")
    parser.add_argument("--by", default="", metavar="A,B", help=(
        "columns of the folder's CSV to report by, such as device,birads; lesion size comes from masks"
    ))  # fmt: skip
    parser.add_argument("--skip-unreadable", action="store_true", help="leave damaged images out")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="feature cache, as for train")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.epilog = (
        f"Images that the run was trained or chosen on are left out. Every scoring is added to RUN/{LOG}.\n\n"
        "example:\n"
        "  sonoedge score --model runs/busi --data BUS-BRA --by device,birads"
    )


def run(args: argparse.Namespace) -> int:
    """Score and log."""
    from train.quiet import quiet

    with quiet():
        from train.data import load_dataset
        from train.features import default_cache
        from train.run_folder import open_run

    finished = open_run(args.model)
    dataset = load_dataset(
        args.data, classes=finished.split.labels, skip_unreadable=args.skip_unreadable, progress=not args.quiet
    )
    columns = [name.strip() for name in args.by.split(",") if name.strip()]
    result = score(finished, dataset, columns, cache=args.cache or default_cache(), progress=not args.quiet)
    result["time"] = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    log = finished.path / LOG
    earlier = log.read_text(encoding="utf-8") if log.is_file() else ""
    result["earlier_scorings"] = sum(result["digest"] in line for line in earlier.splitlines())
    write_text_atomic(log, earlier + json.dumps(result) + "\n")
    print(json.dumps(result) if args.json else render(result))
    return 0


def score(
    finished: Run, dataset: Dataset, columns: Sequence[str], *, cache: Path, progress: bool
) -> dict[str, Any]:
    """Metrics with intervals, overall and by subgroup, on images outside the run's training and validation.

    Raises:
        UsageError: a column that the folder's CSV lacks, or no image is left.
    """
    from train.intervals import without_nan
    from train.metrics import classification_metrics
    from train.results import interval_list
    from train.split import subset_of

    seen = {digest for digest, subset in subset_of(finished.split).items() if subset != "test"}
    kept = [i for i, sample in enumerate(dataset.samples) if sample.sha256 not in seen]
    if not kept:
        raise UsageError("The run has seen all these images in training or validation.")
    left_out = len(dataset) - len(kept)
    dataset = dataset.select(kept)
    members = {**_by_column(dataset, columns), **_by_size(dataset)}
    logits = _logits(finished, dataset, cache, progress)
    y, groups = dataset.y, dataset.groups

    def metrics(rows: Sequence[int]) -> dict[str, list[float]]:
        index = np.array(rows)
        found = classification_metrics(
            y[index], logits[index], threshold=finished.threshold, groups=[groups[i] for i in rows]
        )
        return {name: interval_list(found[name]) for name in _SHOWN}

    result: dict[str, Any] = {
        "run": finished.path.name,
        "data": dataset.root.name,
        "digest": dataset.digest,
        "images": len(dataset),
        "groups": len(set(groups)),
        "left_out_as_seen": left_out,
        "metrics": metrics(range(len(dataset))),
        "subgroups": {
            name: {"images": len(rows), "malignant": int(y[rows].sum()), "metrics": metrics(rows)}
            for name, rows in members.items()
        },
        "intended_use": INTENDED_USE,
    }
    return dict(without_nan(result))


def render(result: Mapping[str, Any]) -> str:
    """A text table."""
    lines = [
        f"{result['run']} on {result['data']}: {result['images']} images in {result['groups']} groups",
        f"{'':<42}{'images':>7}" + "".join(f"{name:>22}" for name in _SHOWN),
        f"{'all':<42}{result['images']:>7}{_cells(result['metrics'])}",
    ]
    for name, part in result["subgroups"].items():
        lines.append(f"{name[:41]:<42}{part['images']:>7}{_cells(part['metrics'])}")
    if result["earlier_scorings"]:
        lines.append(f"note: this run was scored on these images {result['earlier_scorings']} times before.")
    return "\n".join([*lines, "95 % intervals, by group.", INTENDED_USE])


def _cells(metrics: Mapping[str, Sequence[float | None]]) -> str:
    cells = []
    for name in _SHOWN:
        value, low, high = metrics[name]
        cells.append("n/a" if value is None else f"{value:.3f} [{low:.3f}, {high:.3f}]")
    return "".join(f"{cell:>22}" for cell in cells)


def _logits(finished: Run, dataset: Dataset, cache: Path, progress: bool) -> np.ndarray:
    """Through the cache: frozen backbones that several runs share see an external image once."""
    from train.backbones import parse_backbones
    from train.features import extract_features
    from train.fit import FeatureSet, head_logits
    from train.model import HeadSpec, build_model, load_model

    settings = finished.card["settings"]
    model = build_model(
        parse_backbones(settings["backbones"]),
        weights="none",
        input_size=(settings["input_size"],) * 2,
        head=HeadSpec(settings["pooling"], tuple(settings["units"]), settings["dropout"]),
        preprocessing=settings["preprocessing"],
        maps=settings.get("maps", "last"),
    )
    model.full.set_weights(load_model(finished.path).get_weights())
    features = extract_features(model.branches, dataset.samples, cache=cache, progress=progress)
    return head_logits(model, FeatureSet(features, dataset.y))


def _by_column(dataset: Dataset, columns: Sequence[str]) -> dict[str, list[int]]:
    if not columns:
        return {}
    path = next((p for p in (dataset.root / "images.csv", dataset.root / "bus_data.csv") if p.is_file()), None)
    if path is None:
        raise UsageError(f"--by needs an images.csv. Received: {dataset.root}")
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        if missing := [name for name in columns if name not in (reader.fieldnames or [])]:
            raise UsageError(
                f"{path} has no column {', '.join(missing)}. It has: {', '.join(reader.fieldnames or [])}"
            )
        rows = list(reader)
    key = "image" if "image" in rows[0] else "ID"
    by_image = {Path(row[key]).stem: row for row in rows}
    members: dict[str, list[int]] = {}
    for name in columns:
        for i, sample in enumerate(dataset.samples):
            members.setdefault(f"{name} {by_image[Path(sample.relative_path).stem][name].strip()}", []).append(i)
    return dict(sorted(members.items()))


def _by_size(dataset: Dataset) -> dict[str, list[int]]:
    """By the mask's share of the image, where every image has a mask that is not empty."""
    from PIL import Image

    shares = []
    for sample in dataset.samples:
        if sample.mask_path is None:
            return {}
        with Image.open(sample.mask_path) as picture:
            shares.append(float((np.asarray(picture.convert("L")) > 127).mean()))
    named = {name: [i for i, s in enumerate(shares) if low < s <= high] for low, high, name in _SIZES}
    return {name: rows for name, rows in named.items() if rows}
