"""``from sonoedge.train import train, audit, distill, slim, score``: the commands, from Python.

Options are keyword arguments with the commands' names and defaults. What is done goes to the logger ``sonoedge``
(INFO) and to ``callbacks``. TensorFlow is imported by the first call that needs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from sonoedge.edge_runtime.errors import UsageError
from sonoedge.train.arguments import names_in, path_of
from sonoedge.train.callbacks import Callback, listening
from sonoedge.train.config.checks import check_new_run, check_ranges
from sonoedge.train.config.options import OPTIONS, PIXEL_RANGE, SEED_RANGE
from sonoedge.train.config.request import request_of
from sonoedge.train.data.audit import Audit, audit_folder
from sonoedge.train.quiet import quiet
from sonoedge.train.records.settings import DistillFit, DistillSettings, SlimSettings

if TYPE_CHECKING:
    from sonoedge.train.evaluation.run_folder import TrainedRun
    from sonoedge.train.experiments.scoring import Score

Place = str | PathLike[str]

_DISTILL, _SLIM = DistillSettings("", ""), SlimSettings("", "")


def train(
    data: Place | Sequence[Place] | None = None,
    *,
    classes: str | Sequence[str] | None = None,
    split: Place | None = None,
    groups: Place | None = None,
    skip_unreadable: bool | None = None,
    backbones: str | Sequence[str] | None = None,
    weights: Place | None = None,
    preprocessing: str | None = None,
    maps: str | None = None,
    pooling: str | None = None,
    units: int | str | Sequence[int] | None = None,
    dropout: float | None = None,
    input_size: int | None = None,
    recipe: str | None = None,
    protocol: str | None = None,
    seed: int | None = None,
    sweep: Place | None = None,
    augment: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    fine_tune: str | None = None,
    fine_tune_epochs: int | None = None,
    fine_tune_rate: float | None = None,
    average_weights: bool | None = None,
    weight_decay: float | None = None,
    warm_up: float | None = None,
    label_smoothing: float | None = None,
    lesion_weight: float | None = None,
    augment_policy: str | None = None,
    mixed_precision: bool | None = None,
    data_parallel: bool | None = None,
    workers: int | None = None,
    log: str | Sequence[str] | None = None,
    out: Place | None = None,
    overwrite: bool | None = None,
    cache: Place | None = None,
    config: Place | None = None,
    callbacks: Sequence[Callback] = (),
    progress: bool = False,
) -> TrainedRun:
    """Train a classifier on a folder of images and write a run folder: ``sonoedge train``.

    ``sonoedge train --help`` says what the options mean. None leaves an option to the file of ``config``, or else
    to its default there::

        run = train("BUSI", weights="imagenet", out="runs/mine")
        again = train(config=run, seed=1)

    Args:
        data: folder of the images, or several folders of different sources; may be left out with ``config``.
        out: the run folder; by default ``runs/<date>-<time>``.
        config: a YAML file with options, or another run to repeat: its folder or its run.json.
        callbacks: told what happens, see `train.callbacks`.
        progress: show bars on stderr.

    Returns:
        The finished run.

    Raises:
        DataError: the images cannot be used.
        MissingExtraError, ModelError: the weights cannot be had.
        UsageError: an option with a wrong value, options that contradict each other or do nothing, or ``out`` holds
            a finished run and ``overwrite`` is not set.
    """
    options = {name: value for name, value in locals().items() if name in OPTIONS}
    request = request_of(options, config)
    asked = request.others
    folder = Path(asked.get("out") or Path("runs") / datetime.now(UTC).strftime("%Y%m%d-%H%M%S"))
    check_new_run(folder, overwrite=asked.get("overwrite", False))
    with quiet():
        # Keras takes seconds to import: only now, after the arguments are known to be good.
        from sonoedge.train.evaluation.run_folder import open_run
        from sonoedge.train.fitting.trainer import train as train_run
    with listening(callbacks):
        train_run(
            request.settings,
            folder,
            cache=path_of(asked.get("cache")),
            workers=asked.get("workers", 1),
            progress=progress,
            logs=asked.get("log", ()),
            same_images=request.same_images,
        )
    return open_run(folder)


def distill(
    teacher: Place,
    data: Place,
    *,
    out: Place,
    student: str = _DISTILL.student,
    weights: Place = _DISTILL.weights,
    input_size: int | None = _DISTILL.input_size,
    augment: int = _DISTILL.augment,
    epochs: int = _DISTILL.fit.epochs,
    batch_size: int = _DISTILL.fit.batch_size,
    learning_rate: float = _DISTILL.fit.learning_rate,
    seed: int = _DISTILL.seed,
    overwrite: bool = False,
    cache: Place | None = None,
    callbacks: Sequence[Callback] = (),
    progress: bool = False,
) -> TrainedRun:
    """Teach a compact student what a trained run knows: ``sonoedge distill``.

    Args:
        teacher: a finished run.
        data: the images that it was trained on.
        out: run folder of the student.
        callbacks, progress: as for `train`.

    Returns:
        The student's run.

    Raises:
        DataError: the images are not those of the teacher's split.
        MissingExtraError, ModelError: the student's weights cannot be had, or the teacher cannot be read.
        UsageError: an option with a wrong value, or ``out`` holds a finished run.
    """
    check_new_run(Path(out), overwrite=overwrite)
    check_ranges(
        ("--input-size", PIXEL_RANGE[0] if input_size is None else input_size, *PIXEL_RANGE),
        ("--augment", augment, 0, 100),
        ("--epochs", epochs, 1, 10_000),
        ("--batch-size", batch_size, 1, 4096),
        ("--learning-rate", learning_rate, 1e-8, 1.0),
        ("--seed", seed, *SEED_RANGE),
    )
    with quiet():
        from sonoedge.train.distillation.distill import distill as teach
        from sonoedge.train.evaluation.run_folder import open_run
    settings = DistillSettings(
        teacher=_text(teacher),
        data=_text(data),
        student=student,
        weights=_text(weights),
        input_size=input_size,
        augment=augment,
        seed=seed,
        fit=DistillFit(learning_rate=learning_rate, batch_size=batch_size, epochs=epochs),
    )
    with listening(callbacks):
        teach(settings, Path(out), cache=path_of(cache), progress=progress)
    return open_run(out)


def slim(
    teacher: Place,
    data: Place,
    *,
    out: Place,
    divisor: float = _SLIM.divisor,
    images: int = _SLIM.images,
    augment: int = _SLIM.augment,
    seed: int = _SLIM.seed,
    overwrite: bool = False,
    cache: Place | None = None,
    callbacks: Sequence[Callback] = (),
    progress: bool = False,
) -> TrainedRun:
    """The same model with a VGG of a fraction of the multiply-adds: ``sonoedge slim``.

    Args:
        teacher: a finished run with a VGG.
        data: the images that it was trained on.
        out: run folder of the slim model.
        callbacks, progress: as for `train`.

    Returns:
        The run of the slim model.

    Raises:
        DataError: the images are not those of the teacher's split.
        ModelError: the run cannot be read, or has no VGG.
        UsageError: an option with a wrong value, or ``out`` holds a finished run.
    """
    check_new_run(Path(out), overwrite=overwrite)
    check_ranges(
        ("--divisor", divisor, 1.0, 64.0),
        ("--images", images, 1, 10_000),
        ("--augment", augment, 0, 100),
        ("--seed", seed, *SEED_RANGE),
    )
    with quiet():
        from sonoedge.train.distillation.slim import slim as slim_run
        from sonoedge.train.evaluation.run_folder import open_run
    settings = SlimSettings(_text(teacher), _text(data), divisor, images, augment, seed)
    with listening(callbacks):
        slim_run(settings, Path(out), cache=path_of(cache), progress=progress)
    return open_run(out)


def score(
    run: Place,
    data: Place,
    *,
    by: str | Sequence[str] | None = None,
    skip_unreadable: bool = False,
    cache: Place | None = None,
    progress: bool = False,
) -> Score:
    """Measure a finished run on other images, by subgroup; the run folder logs it: ``sonoedge score``.

    Args:
        run: a finished run.
        data: labelled images of the same classes; those that the run has seen are left out.
        by: columns of the folder's CSV to report by.

    Raises:
        DataError: the images cannot be used.
        ModelError: the run cannot be read.
        UsageError: the folder's CSV lacks a column, or the run has seen all images.
    """
    with quiet():
        from sonoedge.train.data.dataset import load_dataset
        from sonoedge.train.evaluation.run_folder import open_run
        from sonoedge.train.experiments.scoring import score_run
        from sonoedge.train.features.cache import default_cache
    finished = open_run(run)
    dataset = load_dataset(
        Path(data), classes=finished.split.labels, skip_unreadable=skip_unreadable, progress=progress
    )
    return score_run(
        finished, dataset, names_in(by) or None, cache=path_of(cache) or default_cache(), progress=progress
    )


def audit(
    data: Place,
    *,
    classes: str | Sequence[str] | None = None,
    skip_unreadable: bool = False,
    out: Place | None = None,
    progress: bool = False,
) -> Audit:
    """Look for copies, near-duplicates and conflicting labels in a data folder: ``sonoedge audit``.

    Args:
        data: labelled images.
        classes: names, the positive one last.
        out: folder for audit.json, audit.md, worst-pairs.png and groups.csv (for ``train(groups=…)``).

    Raises:
        DataError: the folder cannot be read, see `train.data.dataset.load_dataset`.
        UsageError: ``out`` is a file, or another folder with content.
    """
    folder = path_of(out)
    if folder is not None and folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} exists and is not a folder.")
    found = audit_folder(
        Path(data), classes=names_in(classes) or None, skip_unreadable=skip_unreadable, progress=progress
    )
    if folder is not None:
        from sonoedge.train.evaluation.audit_report import write_audit

        write_audit(found, folder)
    return found


def _text(place: Place) -> str:
    return str(Path(place)) if isinstance(place, PathLike) else place
