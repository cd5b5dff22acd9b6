"""``sonoedge benchmark``: accuracy, size and latency of every artifact and of the full model."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_runtime.bundle import load_bundle
from edge_runtime.errors import MissingExtraError, UsageError
from edge_runtime.files import check_replaceable

if TYPE_CHECKING:
    from benchmarks.report import Report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("--bundle", default="bundle", help="bundle folder (default: ./bundle)")
    parser.add_argument("--data", required=True, metavar="DIR", help="training or external images")
    parser.add_argument("--out", type=Path, required=True, metavar="REPORT", help="report folder")
    parser.add_argument("--model", type=Path, metavar="RUN", help="run folder: the full Keras model as reference")
    parser.add_argument("--artifacts", metavar="A,B", help="only these (default: all that can run here)")
    parser.add_argument("--classes", metavar="A,B", help="class folders, the positive one last")
    parser.add_argument("--threads", type=int, help="interpreter threads (default: cores, at most 4)")
    parser.add_argument("--latency-runs", type=int, default=50, metavar="N", help="default: %(default)s; 0: none")
    parser.add_argument("--skip-unreadable", action="store_true", help="leave broken images out")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.add_argument("--json", action="store_true", help="print the report as one JSON object")
    parser.epilog = (
        "Images that the model was trained on are recognised by their digest and left out; images it never saw\n"
        "are external data.\n\n"
        "examples:\n"
        "  sonoedge benchmark --bundle bundle --data BUSI --out report --model runs/busi\n"
        "  sonoedge benchmark --bundle bundle --data BUS-BRA --out report-external"
    )


def run(args: argparse.Namespace) -> int:
    """Score, time, print the table and write the report."""
    from benchmarks.report import REPORT, table, to_json, write_report

    if args.latency_runs < 0:
        raise UsageError(f"--latency-runs cannot be negative. Received: {args.latency_runs}.")
    check_replaceable(args.out, marker=REPORT)
    report = benchmark(
        bundle_path=Path(args.bundle),
        data=Path(args.data),
        model=args.model,
        artifacts=args.artifacts.split(",") if args.artifacts else None,
        classes=args.classes.split(",") if args.classes else None,
        threads=args.threads,
        latency_runs=args.latency_runs,
        skip_unreadable=args.skip_unreadable,
        progress=not args.quiet,
    )
    write_report(report, args.out)
    print(json.dumps(to_json(report)) if args.json else f"{table(report)}\nwrote {args.out}")
    return 0


def benchmark(
    *,
    bundle_path: Path,
    data: Path,
    model: Path | None = None,
    artifacts: list[str] | None = None,
    classes: list[str] | None = None,
    threads: int | None = None,
    latency_runs: int = 50,
    skip_unreadable: bool = False,
    progress: bool = True,
) -> Report:
    """Run the benchmark; see ``sonoedge benchmark --help``.

    Raises:
        BundleError, DataError, ModelError, UsageError: what cannot be read.
    """
    from benchmarks.latency import classifier_calls, machine, measure
    from benchmarks.report import Report, Row
    from benchmarks.scoring import artifact_logits, folder_name, keras_logits, score, select_images
    from edge_runtime.classifier import Classifier, preprocess_file
    from train.data import load_dataset

    bundle = load_bundle(bundle_path)
    classifiers: dict[str, Classifier] = {}
    for name in artifacts or [artifact.name for artifact in bundle.artifacts]:
        try:
            classifiers[name] = Classifier(bundle, name, threads=threads)
        except MissingExtraError as error:
            if artifacts:
                raise
            print(f"note: {name} left out: {error}", file=sys.stderr)
    if not classifiers:
        raise MissingExtraError("An interpreter for this bundle", "litert")
    dataset = load_dataset(data, classes=classes or bundle.labels, skip_unreadable=skip_unreadable)
    selection = select_images(bundle, dataset)
    images = selection.dataset

    size = (bundle.input.height, bundle.input.width)
    frame = preprocess_file(images.samples[0].path, size)
    full, calls = _full_model(model, frame) if model else (None, {})
    logits = artifact_logits(classifiers, images, progress=progress)
    thresholds = {name: classifier.artifact.threshold for name, classifier in classifiers.items()}
    if full is not None:
        reference_name, reference_text = "full Keras model", "the full Keras model"
        logits = {reference_name: keras_logits(full.model, images, progress=progress), **logits}
        thresholds[reference_name] = full.threshold
    else:
        reference_name = next((n for n in logits if bundle.artifact(n).precision == "fp32"), next(iter(logits)))
        reference_text = f"{reference_name} (no --model given, so not the Keras model itself)"
    calls |= classifier_calls(classifiers, frame)
    latency = measure(calls, runs=latency_runs) if latency_runs else {}
    reference = (logits[reference_name], thresholds[reference_name])
    rows = []
    for name, values in logits.items():
        own = classifiers.get(name)
        rows.append(
            Row(
                score(name, values, thresholds[name], images, None if name == reference_name else reference),
                own.artifact.size_bytes if own else full.size_bytes if full else 0,
                latency.get(name),
                own.backbone.device if own else {"interpreter": "keras"},
            )
        )
    return Report(
        bundle=bundle.name,
        data=folder_name(data),
        kind=selection.kind,
        note=selection.note,
        images=len(images),
        groups=len(set(images.groups)),
        reference=reference_text,
        machine=machine(threads),
        provenance={
            "dataset_digest": images.digest,
            "calibration": bundle.provenance.get("calibration"),
            "versions": bundle.provenance.get("versions"),
            "notes": list(dataset.notes),
        },
        rows=rows,
    )


class _Full:
    def __init__(self, model: Any, threshold: float, size_bytes: int) -> None:
        self.model, self.threshold, self.size_bytes = model, threshold, size_bytes


def _full_model(path: Path, frame: Any) -> tuple[_Full, dict[str, Callable[[], Any]]]:
    from train.quiet import quiet

    with quiet():
        from train.model import load_model
        from train.run_folder import open_run

    opened = open_run(path)
    model = load_model(path)
    full = _Full(model, opened.threshold, opened.model_path.stat().st_size)
    return full, {"full Keras model": lambda: model.predict_on_batch(frame)}
