"""Measure the compact recipe: trained, exported, scored once elsewhere, with thresholds of a site: compact.json.

    python scripts/measure/compact.py --data BUSI --data BUS-UCLM --data BUS-UC --external BUS-BRA \
        --weights WEIGHTS --work work --about-weights "real MobileNetV1"

The script types the commands, so the commands in the JSON are those that were run. What lies in the folder of
``--work`` is not made again. The external images choose nothing: the recipe stands before they are looked at.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.measure.published import measured_candidates, read, step
from sonoedge.benchmarks.measure.environment import how_made, this_command
from sonoedge.edge_runtime.files import write_text_atomic
from sonoedge.edge_runtime.imaging.image import read_image
from sonoedge.edge_runtime.model.cascade import logit_threshold
from sonoedge.edge_runtime.model.classifier import Classifier
from sonoedge.export.bundle.site import MIN_POSITIVE_PATIENTS, threshold_for
from sonoedge.train.api import score
from sonoedge.train.data.dataset import Dataset, load_dataset
from sonoedge.train.evaluation.metrics import classification_metrics
from sonoedge.train.records.reader import plain

ARTIFACT = "tflite-int8"
DRAWS, PATIENTS, AIM = 500, 50, 0.90


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing and write compact.json; exit code 0."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--data", type=Path, action="append", required=True, help="a source; once for each")
    parser.add_argument("--external", type=Path, required=True, help="images of another source")
    parser.add_argument("--weights", type=Path, required=True, help="backbone weights, as for train")
    parser.add_argument("--work", type=Path, default=Path("work"), help="run and bundle (default: ./work)")
    parser.add_argument("--about-weights", metavar="TEXT", help="what the weights are, for the JSON")
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="default: ./docs/results")
    args = parser.parse_args(argv)
    work: Path = args.work
    work.mkdir(parents=True, exist_ok=True)
    run, bundle = work / "run", work / "bundle"
    given = [part for folder in args.data for part in ("--data", folder)]
    commands = [
        step(run, "train", [*given, "--weights", args.weights, "--recipe", "compact"]),
        step(bundle, "export", ["--model", run, "--format", f"tflite-fp16,{ARTIFACT},openvino-int8"]),
    ]
    looked = work / "score.json"
    if not looked.exists():  # one look at the external images
        write_text_atomic(looked, json.dumps(plain(score(run, args.external))))
    explained = ["--bundle", bundle, "--model", run, "--data", args.data[0], "--artifacts", ARTIFACT]
    commands.append(
        step(work / "explain", "benchmark-explain", [*explained, "--faithfulness-images", 0, "--timing-runs", 0])
    )
    commands.append(this_command("sonoedge score", ["--model", str(run), "--data", str(args.external)]))
    manifest = read(bundle / "bundle.json")
    (artifact,) = [one for one in manifest["artifacts"] if one["name"] == ARTIFACT]
    card, external = read(run / "run.json"), load_dataset(args.external)
    logits = file_logits(bundle, external)
    kept = ("value", "low", "high")
    found = classification_metrics(external.y, logits, groups=external.groups)
    body = {
        **how_made(commands, weights=args.about_weights or f"files of {args.weights.name}"),
        "train": {
            "images": card["dataset"]["images"], "seconds": card["seconds"], "test": card["metrics"]["test"],
            "by_source": {
                name: part for name, part in card["subgroups"].items() if name.startswith("source ")
            },
        },
        "file": {"size_bytes": artifact["size_bytes"], **artifact["metrics"]["validation"]},
        "candidates": measured_candidates(manifest),
        "pointing": pointing(read(work / "explain" / "explanation.json")["localisation"]),
        "external": {
            "data": args.external.name, "images": len(external), "groups": len(set(external.groups)),
            "full": read(looked)["metrics"],
            ARTIFACT: {"auc": [round(getattr(found["auc"], name), 4) for name in kept]},
        },
        "site": draws(external, logits, run_threshold=card["threshold"]),
    }  # fmt: skip
    write_text_atomic(args.out / "compact.json", json.dumps(body, indent=1, ensure_ascii=False) + "\n")
    return 0


def pointing(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """The pointing game of `explanation.json`, by subset and map: value, low and high end."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        if row["method"].startswith(("Grad-CAM", "centre")):
            values = row["metrics"]["pointing"]
            figures = [round(values[key], 4) for key in ("value", "low", "high")]
            found.setdefault(row["subset"], {})[row["method"]] = figures
    return found


def file_logits(bundle: Path, dataset: Dataset) -> np.ndarray:
    """The file's logit of every image; a file keeps them."""
    kept = bundle.with_name("external-logits.json")
    if not kept.exists():
        with Classifier(bundle, ARTIFACT) as model:
            found = [model(read_image(sample.path), ungated=True).logit for sample in dataset.samples]
        write_text_atomic(kept, json.dumps(found))
    return np.array(json.loads(kept.read_text(encoding="utf-8")))


def draws(dataset: Dataset, logits: np.ndarray, *, run_threshold: float) -> dict[str, Any]:
    """Thresholds from some patients, scored on the others, many times; and the run's own threshold on all."""
    rng, groups = np.random.default_rng(0), np.array(dataset.groups)
    patients, figures, refused = np.unique(groups), [], 0
    while len(figures) < DRAWS:
        local = np.isin(groups, rng.choice(patients, PATIENTS, replace=False))
        if len(set(groups[local & (dataset.y == 1)])) < MIN_POSITIVE_PATIENTS:
            refused += 1
            continue
        rows = np.flatnonzero(local)
        cut = threshold_for(logits[rows], dataset.y[rows], [dataset.groups[i] for i in rows], AIM)
        figures.append(_found(dataset.y[~local], logits[~local] >= cut))
    sensitivity, specificity = np.array(figures).T
    return {
        "draws": DRAWS, "patients": PATIENTS, "aim": AIM, "refused_draws": refused,
        "own_threshold": _found(dataset.y, logits >= logit_threshold(run_threshold)),
        "sensitivity": _quantiles(sensitivity), "specificity": _quantiles(specificity),
    }  # fmt: skip


def _found(y: np.ndarray, positive: np.ndarray) -> tuple[float, float]:
    return round(float(positive[y == 1].mean()), 4), round(float((~positive[y == 0]).mean()), 4)


def _quantiles(values: np.ndarray) -> dict[str, float]:
    return {name: round(float(np.quantile(values, q)), 4) for name, q in (("median", 0.5), ("p10", 0.1))}


if __name__ == "__main__":
    sys.exit(main())
