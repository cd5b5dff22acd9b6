"""`export`: run folder or Keras model -> bundle. ``sonoedge export`` is this function on the command line."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sonoedge.edge_runtime.bundle.contract import MANIFEST
from sonoedge.edge_runtime.errors import DataError, MissingExtraError, UsageError
from sonoedge.export.bundle.exported import ExportedBundle, exported
from sonoedge.export.bundle.limits import checked_limits
from sonoedge.train.arguments import names_in, path_of
from sonoedge.train.folders import check_replaceable
from sonoedge.train.terminal import LOG

if TYPE_CHECKING:
    from sonoedge.export.bundle.pipeline import ExportRequest
    from sonoedge.export.formats import ExportFormat
    from sonoedge.export.gate.images import GateImages
    from sonoedge.export.guard.agreement import AgreementFrames
    from sonoedge.export.quantize.calibration import CalibrationSet
    from sonoedge.export.quantize.recipes import Recipe
    from sonoedge.train.data.dataset import Dataset
    from sonoedge.train.evaluation.run_folder import Run

StrPath = str | os.PathLike[str]
OTHER_FORMATS = ("dynamic", "fp16", "fp32")
PRECISIONS = ("guard", "w8a8", "w8a16", "mixed", *OTHER_FORMATS)


def export(
    model: StrPath | None = None,
    *,
    out: StrPath = "bundle",
    formats: str | Sequence[str] = "tflite-int8",
    data: StrPath | None = None,
    calibration_data: StrPath | None = None,
    num_calibration_samples: int = 300,
    seed: int = 0,
    max_drop: float = 0.01,
    max_flips: float = 0.01,
    agreement_data: StrPath | None = None,
    allow_drop: bool = False,
    float16_weights: bool = False,
    precision: str = "guard",
    target: str = "cpu",
    recipe: StrPath | Mapping[str, Any] | None = None,
    layer_report: StrPath | None = None,
    cache: StrPath | None = None,
    feature_cache: StrPath | None = None,
    gate: bool = True,
    split_layer: str = "features",
    labels: str | Sequence[str] | None = None,
    threshold: float | None = None,
    sensitivity: float | None = None,
    name: str | None = None,
    max_ms: float | None = None,
    max_mb: float | None = None,
    max_ram: float | None = None,
    progress: bool = False,
) -> ExportedBundle:
    """Make a bundle and verify it; it appears only if every artifact agrees with the Keras model.

    The options are those of ``sonoedge export``, whose help describes them.

    Args:
        model: run folder, what `train` returned, or a ``.keras`` file with ``labels``; None: the newest run under
            ``runs``.
        out: bundle folder; an older bundle is replaced.
        formats: names, or a text with commas; ``all`` for all.
        data: where the run's images are now.
        calibration_data: own representative images; None: training images of the run.
        num_calibration_samples, seed: how many calibration images are drawn, and how.
        max_drop: largest drop in accuracy and in AUC on validation images, 0–1, absolute.
        max_flips: largest share of decisions that change, 0–1.
        agreement_data: unlabelled frames on which decisions are compared, too.
        allow_drop: take the nearest candidate if none is within the budget.
        float16_weights: store what stays in float as float16 in TensorFlow Lite files, too.
        precision: one of `PRECISIONS`, for the int8 formats.
        target: name in `export.targets.table.TARGETS`: all but ``cpu`` take TensorFlow Lite files that are int8
            throughout.
        recipe: a file, or what it would hold: replaces the search.
        layer_report: folder for the error of every tensor.
        cache, feature_cache: folders of what the next export can use.
        gate: fit the out-of-domain gate.
        split_layer: layer whose output is the feature map.
        labels: two class names of a ``.keras`` file, the positive one last.
        threshold: probability; None: the run's, 0.5 for a ``.keras`` file.
        sensitivity: instead of ``threshold``: the highest threshold with this sensitivity on validation images.
        name: of the bundle; None: the run's.
        max_ms, max_mb, max_ram: limits on this machine: median milliseconds of a frame, megabytes of files,
            megabytes of peak memory. What exceeds one is left out; the fastest of the rest comes first.
        progress: show bars.

    Raises:
        AccuracyError: no int8 file is within the budget.
        LimitError: no artifact is within the limits.
        DataError, ImageError: the images are not there, or do not belong to the run.
        MissingExtraError: the interpreter of a format, or the compiler of the target, is not installed.
        ModelError: the model cannot be read, or a format cannot express it.
        UsageError: an option does not fit, or ``out`` holds something else.
        VerificationError: an artifact does not agree with Keras; nothing is published.
    """
    from sonoedge.export.formats import parse_formats, with_precision
    from sonoedge.export.guard.integers import checked_target

    rows = parse_formats(formats if isinstance(formats, str) else ",".join(formats))
    if precision not in PRECISIONS:
        raise UsageError(f"--precision is one of {', '.join(PRECISIONS)}. Received: {precision!r}.")
    if precision in OTHER_FORMATS and not recipe:
        rows = with_precision(rows, precision)
    if threshold is not None and not 0.0 <= threshold <= 1.0:
        raise UsageError(f"--threshold is a probability. Received: {threshold}.")
    for option, value in (("--max-drop", max_drop), ("--max-flips", max_flips)):
        if not 0.0 <= value <= 1.0:
            raise UsageError(f"{option} is a share from 0 to 1. Received: {value}.")
    limits = checked_limits(max_ms, max_mb, max_ram)
    hardware = checked_target(target, rows, precision, float16_weights=float16_weights)
    folder = Path(out)
    check_replaceable(folder, marker=MANIFEST)
    _require(rows)
    from sonoedge.train.quiet import quiet

    with quiet():
        from sonoedge.export.bundle.pipeline import ExportRequest, export_bundle
        from sonoedge.export.convert.splitting import split_model
        from sonoedge.export.guard.comparison import Budget
        from sonoedge.export.guard.int8 import Int8Policy
        from sonoedge.train.evaluation.run_folder import newest_run, open_run
        from sonoedge.train.models.fusion import load_model

    path = newest_run() if model is None else Path(model)
    run = None if path.suffix == ".keras" else open_run(path)
    if run is None and len(names_in(labels)) != 2:
        raise UsageError("A .keras file needs --labels NEGATIVE,POSITIVE.")
    chosen = run.split.labels if run else tuple(names_in(labels))
    asked, operating_point = _recipe(recipe), _threshold(threshold, sensitivity, run)
    measured = any(row.is_measured for row in rows)
    images = _images(run, path_of(data), gate=gate, measured=measured)
    draw = {"count": num_calibration_samples, "seed": seed, "progress": progress}
    calibration, own = _calibration(rows, path_of(calibration_data), run, images, chosen, draw)
    request = ExportRequest(
        model=split_model(load_model(path), split_layer),
        labels=chosen,
        formats=rows,
        name=name or (path.stem if run is None else path.resolve().name),
        threshold=operating_point,
        run=run,
        calibration=calibration,
        calibration_seed=seed,
        int8=Int8Policy(
            Budget(max_drop, max_flips),
            precision,  # type: ignore[arg-type] # another format's name was replaced above
            asked,
            allow_drop,
            images["val"] if images else None,
            path_of(layer_report),
            float16_weights,
            _frames(path_of(agreement_data), images if measured else None, calibration),
            hardware,
        ),
        cache=path_of(cache),
        features=path_of(feature_cache),
        gate=_gate_images(run, images, own) if gate else None,
        limits=limits,
    )
    _say_what_is_special(request, gate=gate)
    return exported(export_bundle(request, folder, progress=progress))


def _require(rows: Sequence[ExportFormat]) -> None:
    """Fail before the long work if the interpreter of a format is missing."""
    from sonoedge.edge_runtime.backends import is_available

    for row in rows:
        if not is_available(row.runtime):
            raise MissingExtraError(f"An interpreter for {row.name}", "export")


def _recipe(recipe: StrPath | Mapping[str, Any] | None) -> Recipe | None:
    from sonoedge.export.quantize.recipes import parse_recipe, read_recipe

    if not recipe:
        return None
    return parse_recipe(dict(recipe)) if isinstance(recipe, Mapping) else read_recipe(Path(recipe))


def _images(run: Run | None, root: Path | None, *, gate: bool, measured: bool) -> dict[str, Dataset] | None:
    """The run's images by subset, if anything needs them."""
    from sonoedge.train.evaluation.run_folder import load_subsets

    if run is None or not (measured or gate):
        return None
    try:
        return load_subsets(run, root)
    except DataError as error:
        if measured:
            raise
        raise DataError(f"{error} Or leave the out-of-domain gate out with --no-gate.") from error


def _calibration(
    rows: Sequence[ExportFormat],
    folder: Path | None,
    run: Run | None,
    images: dict[str, Dataset] | None,
    labels: tuple[str, ...],
    draw: dict[str, Any],
) -> tuple[CalibrationSet | None, CalibrationSet | None]:
    """The calibration images of int8 formats, and the images that a bare model's gate may be fitted to."""
    from sonoedge.export.quantize.calibration import calibration_from_folder, calibration_from_run

    if not any(row.needs_calibration for row in rows):
        bare = run is None and folder is not None
        return None, calibration_from_folder(folder, None, labels, **draw) if bare and folder else None
    if folder is not None:
        found = calibration_from_folder(folder, images, labels, **draw)
    elif images is not None:
        found = calibration_from_run(images, **draw)
    else:
        raise UsageError("int8 formats of a .keras file need --calibration-data DIR.")
    return found, found


def _gate_images(
    run: Run | None, images: dict[str, Dataset] | None, calibration: CalibrationSet | None
) -> GateImages | None:
    """The images that the gate is fitted to; None for a bare model without enough calibration images."""
    from sonoedge.export.gate.images import MINIMUM, copies_of, images_of_folder, images_of_run

    if run is not None and images is not None:
        return images_of_run(images, copies_of(run))
    if calibration is not None and len(calibration.paths) >= MINIMUM:
        return images_of_folder(calibration.paths, calibration.digests)
    return None


def _frames(
    folder: Path | None, images: dict[str, Dataset] | None, calibration: CalibrationSet | None
) -> AgreementFrames | None:
    """The unlabelled frames; neither the run nor the calibration may have used one of them."""
    if folder is None:
        return None
    if images is None:
        raise UsageError("--agreement-data needs a run folder, and a quantized format to compare with float32.")
    from sonoedge.export.guard.agreement import agreement_frames

    used = dict.fromkeys(calibration.digests if calibration else (), "calibration")
    used |= {s.sha256: subset for subset, part in images.items() for s in part.samples}
    return agreement_frames(folder, used)


def _threshold(threshold: float | None, sensitivity: float | None, run: Run | None) -> float:
    """Threshold of the full model: as given, for a sensitivity, or the run's own."""
    if sensitivity is None:
        own = run.threshold if run else 0.5
        return own if threshold is None else float(threshold)
    if threshold is not None or run is None:
        raise UsageError("--sensitivity needs a run folder, and goes not together with --threshold.")
    from sonoedge.train.evaluation.run_folder import validation_logits
    from sonoedge.train.evaluation.thresholds import threshold_for_sensitivity

    return threshold_for_sensitivity(*validation_logits(run), sensitivity)


def _say_what_is_special(request: ExportRequest, *, gate: bool) -> None:
    for warning in request.calibration.warnings if request.calibration else ():
        LOG.warning(warning)
    if request.model.not_closed:
        LOG.info(
            f"note: the head has no closed form ({request.model.not_closed}); TensorFlow's gradient is exported."
        )
    if request.gate is None and gate:
        LOG.info(
            "note: the bundle has no out-of-domain gate. For a model without a run it is fitted to the images of "
            "--calibration-data, at least 8."
        )
    elif request.gate is not None and request.run is None:
        LOG.info(
            "note: the out-of-domain gate is fitted to the calibration images; the training images are not known."
        )
