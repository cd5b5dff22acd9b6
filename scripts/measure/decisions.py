"""Which decisions do the files of a default export change? Five seeds, five folds, and another source.

    python scripts/measure/decisions.py --data BUSI --weights WEIGHTS --external BUS-BRA --work work \
        --out docs/results/decisions.json

Every run is ``sonoedge train`` and every bundle ``sonoedge export --format A,B``, with no other option. Each seed
has another split; its files decide on its test images. The test parts of five grouped folds are pooled, so that
every image is decided once by files that have not seen it. The images of the other source are decided by the files
of seed 0. A decision of the full Keras model, at its threshold, is compared with that of the file, at the file's
own threshold. After an interruption call the script again: it goes on where it was. It takes about an hour on two
cores, for one format.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.measure.running import called
from scripts.results.tables import decisions
from sonoedge.benchmarks.measure.environment import how_made
from sonoedge.edge_runtime.bundle.manifest import load_bundle
from sonoedge.edge_runtime.files import write_text_atomic
from sonoedge.edge_runtime.imaging.image import read_image, to_input
from sonoedge.edge_runtime.model.classifier import Classifier
from sonoedge.edge_runtime.proportion import GroupedCount
from sonoedge.train.data.dataset import Dataset, load_dataset
from sonoedge.train.data.sources import data_root
from sonoedge.train.data.split import Split, SplitEntry, write_split
from sonoedge.train.evaluation.metrics import sigmoid
from sonoedge.train.evaluation.run_folder import Run, load_subsets, open_run
from sonoedge.train.experiments.cross_validation import make_folds

SEEDS = FOLDS = 5
TEST, EXTERNAL = "test.json", "external.json"


def main() -> int:
    """Measure, write the JSON, and print the table that `result_tables.py` puts into the documents; exit code 0."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--data", type=Path, required=True, help="BUSI")
    parser.add_argument("--weights", type=Path, required=True, help="backbone weights, as for train")
    parser.add_argument("--external", type=Path, required=True, help="labelled images of another source")
    parser.add_argument("--format", default="tflite-int8", metavar="A,B", help="default: %(default)s")
    parser.add_argument("--work", type=Path, default=Path("work"), help="runs and bundles (default: ./work)")
    parser.add_argument("--out", type=Path, default=Path("docs/results/decisions.json"))
    parser.add_argument("--about-weights", metavar="TEXT", help="what the weights are, for the JSON")
    parser.add_argument("--finished", action="store_true", help="run nothing: report what an earlier call finished")
    args = parser.parse_args()
    body: dict[str, Any] = {}
    for body in measured(args):
        write_text_atomic(args.out, json.dumps(body, indent=1) + "\n")
    print(decisions(body))
    return 0


def measured(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield all figures so far after each run: seeds first, then the other source, then the folds."""
    dataset = load_dataset(args.data)
    commands = (
        "sonoedge train --data BUSI --weights WEIGHTS --out RUN [--seed SEED | --split FOLD]",
        f"sonoedge export --model RUN --format {args.format} --out BUNDLE",
    )
    body: dict[str, Any] = {
        **how_made(commands, weights=args.about_weights or f"files of {args.weights.name}"),
        "seeds": [],
        "folds": [],
    }

    def count(folder: Path, *options: str) -> dict[str, Any] | None:
        if args.finished:
            return counted(folder, dataset) if (folder / TEST).exists() else None
        prepare(folder, args.data, args.weights, args.format, options)
        return counted(folder, dataset)

    for seed in range(SEEDS):
        if facts := count(args.work / f"seed-{seed}", "--seed", str(seed)):
            body["seeds"].append(facts | {"seed": seed})
            yield body
    first = args.work / "seed-0"
    if not args.finished or (first / EXTERNAL).exists():
        body["external"] = counted(first, load_dataset(args.external, classes=dataset.labels), external=True)
        yield body
    for number, parts in enumerate(make_folds(dataset, FOLDS, "grouped", 0)):
        folder = args.work / f"fold-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        write_split(split_of(dataset, parts), folder / "split.json")
        if facts := count(folder, "--split", str(folder / "split.json")):
            body["folds"].append(facts | {"fold": number})
            body["pooled"] = pooled(body["folds"])
            yield body


def prepare(folder: Path, data: Path, weights: Path, formats: str, options: Sequence[str]) -> None:
    """Make a run and its bundle in a folder, if they are not there."""
    run, bundle = folder / "run", folder / "bundle"
    folder.mkdir(parents=True, exist_ok=True)
    if not run.exists():
        given = ["--data", data, "--weights", weights, "--out", run, *options]
        called("train", given, folder / "train.log")
    if not bundle.exists():
        given = ["--model", run, "--format", formats, "--quantized-cache", folder.parent / "cache", "--out", bundle]
        called("export", given, folder / "export.log")


def split_of(dataset: Dataset, parts: dict[str, Dataset]) -> Split:
    """A fold as split.json."""
    subset = {sample.relative_path: name for name, part in parts.items() for sample in part.samples}
    entries = tuple(
        SplitEntry(s.relative_path, s.sha256, s.label, s.group, subset[s.relative_path])
        for s in sorted(dataset.samples, key=lambda s: s.relative_path)
    )
    return Split(
        data_root=data_root(dataset), labels=dataset.labels, strategy="grouped", seed=0,
        fractions=(0.7, 0.1, 0.2), entries=entries,
    )  # fmt: skip


def counted(folder: Path, dataset: Dataset, *, external: bool = False) -> dict[str, Any]:
    """Count changed decisions on the run's test images, or on all of another source; a file keeps the result."""
    kept = folder / (EXTERNAL if external else TEST)
    if kept.exists():
        return dict(json.loads(kept.read_text(encoding="utf-8")))
    run = open_run(folder / "run")
    bundle = load_bundle(folder / "bundle")
    if external:
        images, full = dataset, full_logits(run, dataset)
    else:
        images, full = test_logits(run, dataset.roots[""])
    ours = sigmoid(full) >= run.threshold
    facts: dict[str, Any] = {
        "test_auc": [round(float(x), 4) for x in run.card.metrics["test"]["auc"]],
        "threshold": round(run.threshold, 4),
        "files": {},
    }
    for artifact in bundle.artifacts:
        model = Classifier(bundle, artifact.name)
        bar = tqdm(images.samples, desc=f"{folder.name} {artifact.name}", leave=False)
        own = np.array([model.logit(to_input(read_image(s.path), model.input_size)) for s in bar])
        changed = (sigmoid(own) >= artifact.threshold) != ours
        taken = artifact.metrics["validation"]
        facts["files"][artifact.name] = {
            "taken": taken["candidate"],
            "int8_share": taken["int8_share"],
            "validation": [taken["flipped"], taken["images"]],
            "logit_error": round(float(np.sqrt(np.mean((own - full) ** 2))), 4),
            "changed": count_json(GroupedCount.of(changed, images.groups)),
        }
    write_text_atomic(kept, json.dumps(facts, indent=1))
    return facts


def test_logits(run: Run, root: Path) -> tuple[Dataset, np.ndarray]:
    """The run's test images, and its own logits (N,) of them."""
    with (run.path / "predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["image"]: float(row["logit"]) for row in csv.DictReader(file) if row["subset"] == "test"}
    test = load_subsets(run, root)["test"]
    return test, np.array([rows[sample.relative_path] for sample in test.samples])


def full_logits(run: Run, dataset: Dataset) -> np.ndarray:
    """The Keras model's logits (N,)."""
    from sonoedge.train.experiments.scoring import logits_of
    from sonoedge.train.features.cache import default_cache

    return logits_of(run, dataset, default_cache(), progress=True)


def count_json(count: GroupedCount) -> dict[str, Any]:
    """Changed decisions as plain JSON types, with the sums that an interval by group needs."""
    interval = count.interval()
    return {
        "events": count.events,
        "images": count.images,
        "groups": count.groups,
        "squares": count.squares,
        "interval": [round(float(interval.low), 5), round(float(interval.high), 5)],
    }


def pooled(folds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Counts of all folds together, by file: they may be added, since no group is in two test parts."""
    found = {}
    for name in folds[0]["files"]:
        parts = [fold["files"][name]["changed"] for fold in folds]
        total = GroupedCount(
            *(sum(part[key] for part in parts) for key in ("events", "images", "groups", "squares"))
        )
        found[name] = count_json(total)
    return found


if __name__ == "__main__":
    sys.exit(main())
