"""`benchmark` and `write_report`: ``sonoedge benchmark`` and ``sonoedge report`` are these on the command line."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sonoedge.benchmarks.records.journal import Journal
from sonoedge.benchmarks.records.runfile import MODE, REPORT, Run, read_runs
from sonoedge.benchmarks.records.sustained import read_sustained
from sonoedge.benchmarks.retention.regression import Limits, compare_reports
from sonoedge.edge_runtime.bundle.checksums import bundle_digest
from sonoedge.edge_runtime.errors import DataError, UsageError
from sonoedge.edge_runtime.files import write_text_atomic
from sonoedge.train.arguments import names_in, path_of
from sonoedge.train.folders import check_replaceable
from sonoedge.train.terminal import LOG

if TYPE_CHECKING:
    from sonoedge.benchmarks.measure.candidates import Bar, Planned
    from sonoedge.benchmarks.report.written import BenchmarkReport
    from sonoedge.edge_runtime.bundle.contract import Bundle
    from sonoedge.train.evaluation.run_folder import TrainedRun

StrPath = str | os.PathLike[str]
FULL = "full Keras model"
SUSTAINED_PAGE = "sustained.html"
_WITH_PEERS = ("quick", "normal")
"""The modes that also time other numbers of threads and, unless told otherwise, peers."""
_LIMITS = Limits()


def benchmark(
    bundle: StrPath = "bundle",
    data: StrPath | None = None,
    *,
    out: StrPath = "report",
    model: StrPath | None = None,
    artifacts: str | Sequence[str] | None = None,
    classes: str | Sequence[str] | None = None,
    threads: int | None = None,
    mode: str = MODE,
    peers: bool | None = None,
    gallery: bool = True,
    max_images: int | None = None,
    skip_unreadable: bool = False,
    progress: bool = False,
) -> BenchmarkReport:
    """Measure accuracy, size, memory and latency of every artifact, and write the report.

    Images that the model was trained on are recognised by their digest and left out; images it never saw are
    external data. Finished steps are kept beside ``out`` until the end: an interrupted benchmark goes on. An
    artifact that fails is a row with its error; the others are measured.

    Args:
        bundle: bundle folder.
        data: images, of the training data or external.
        out: report folder; an older report is replaced.
        model: run folder: its full Keras model is the reference; None compares with an artifact.
        artifacts: names; None takes all that can run here.
        classes: class folders, the positive one last; None takes the bundle's labels.
        threads: for interpreters; None takes `edge_runtime.backends.default_threads`.
        mode: one of `benchmarks.measure.candidates.MODES`, or ``none`` for no latency.
        peers: also measure bare interpreters, and with a ``model`` other quantizers and clocks; None: in the
            modes ``quick`` and ``normal``.
        gallery: keep images with heat maps in the report.
        max_images: at most this many images, at least 2; None for all.
        skip_unreadable: leave broken images out.
        progress: show bars.

    Raises:
        BundleError, DataError, ModelError, UsageError: an input cannot be read or does not fit.
        MissingExtraError: the interpreter of a named artifact is not installed.
    """
    from sonoedge.benchmarks.report.written import written
    from sonoedge.benchmarks.retention.results import result

    if data is None:
        raise UsageError("--data DIR is needed; only --device-run does without images.")
    if max_images is not None and max_images < 2:
        raise UsageError(f"--max-images must be at least 2. Received: {max_images}.")
    target = Path(out)
    check_replaceable(target, marker=REPORT)
    measured = measure(
        Path(bundle),
        Path(data),
        target,
        model=path_of(model),
        artifacts=names_in(artifacts) or None,
        classes=names_in(classes) or None,
        threads=threads,
        mode=mode,
        peers=mode in _WITH_PEERS if peers is None else peers,
        gallery=gallery,
        max_images=max_images,
        skip_unreadable=skip_unreadable,
        progress=progress,
    )
    return written([result(measured)], target)


def write_report(
    runs: StrPath | Sequence[StrPath],
    *,
    out: StrPath,
    baseline: StrPath | None = None,
    max_slowdown: float = _LIMITS.slowdown,
    max_loss: float = _LIMITS.loss,
) -> BenchmarkReport:
    """Merge runs of several machines, data sets and dates into one report, and compare them with an earlier one.

    Args:
        runs: run files, report.json files, or what `benchmark` returned.
        out: report folder.
        baseline: earlier run file or report.json; what got worse is in ``regressions``.
        max_slowdown: share of p50 that still counts as unchanged.
        max_loss: loss of accuracy and of AUC that still counts as unchanged.

    Raises:
        DataError: a file is no benchmark file, or nothing can be compared with the baseline.
        UsageError: a limit is negative, or ``out`` holds something else.
    """
    from sonoedge.benchmarks.report.written import written
    from sonoedge.benchmarks.retention.results import result

    target = Path(out)
    _check_report(target)
    for option, value in (("--max-slowdown", max_slowdown), ("--max-loss", max_loss)):
        if not value >= 0:
            raise UsageError(f"{option} cannot be negative. Received: {value}.")
    files = [runs] if isinstance(runs, str | os.PathLike) else runs
    if not files:
        raise UsageError("--baseline compares run files; these are sustained runs.")
    results = [result(one) for file in files for one in _runs_in(file)]
    comparison = None
    if baseline is not None:
        limits = Limits(slowdown=max_slowdown, loss=max_loss)
        comparison = compare_reports([result(one) for one in _runs_in(baseline)], results, limits)
        if not comparison.compared:
            raise DataError(
                f"Nothing in {baseline} can be compared with these runs: other machines and other images."
            )
    return written(results, target, comparison)


def write_sustained(runs: Sequence[StrPath], out: StrPath) -> Path:
    """Write the page of sustained runs, ``sustained.html``, into a report folder.

    Args:
        runs: files of ``sonoedge benchmark --sustained``.
        out: report folder.

    Raises:
        DataError: a file is no sustained run.
        UsageError: ``out`` holds something else.
    """
    from sonoedge.benchmarks.report.sustained import sustained_page

    target = Path(out)
    _check_report(target)
    page = target / SUSTAINED_PAGE
    write_text_atomic(page, sustained_page([read_sustained(Path(path)) for path in runs]))
    LOG.info(f"wrote {page}")
    return page


def _check_report(out: Path) -> None:
    """A folder with the page of sustained runs alone is ours, too."""
    check_replaceable(out, marker=SUSTAINED_PAGE if (out / SUSTAINED_PAGE).is_file() else REPORT)


def _runs_in(file: StrPath) -> tuple[Run, ...]:
    path = Path(file)
    return read_runs(path / REPORT if (path / REPORT).is_file() else path)


def measure(
    bundle_path: Path,
    folder: Path,
    out: Path,
    *,
    model: Path | None,
    artifacts: Sequence[str] | None,
    classes: Sequence[str] | None,
    threads: int | None,
    mode: str,
    peers: bool,
    gallery: bool,
    max_images: int | None,
    skip_unreadable: bool,
    progress: bool,
) -> Run:
    """The measurements of `benchmark`; only the file of finished steps is written, beside ``out``."""
    from sonoedge.benchmarks.device.run import fingerprint
    from sonoedge.benchmarks.measure.planning import artifact_candidates, checked_threads, make_protocol
    from sonoedge.benchmarks.measure.progress import bars
    from sonoedge.benchmarks.measure.selection import load_selection
    from sonoedge.benchmarks.retention.assembly import run_benchmark
    from sonoedge.edge_runtime.bundle.trust import load_trusted

    bar = bars(progress)
    count = checked_threads(threads)
    bundle = load_trusted(bundle_path)
    bundle = replace(bundle, path=bundle.path.resolve())
    planned = artifact_candidates(bundle, artifacts, count, bare=peers and mode != "none")
    make_protocol(mode, count, planned)
    run = None if model is None else _open_run(model)  # before the images are read: what is wrong shows at once
    data, images = load_selection(bundle, folder, classes, skip_unreadable=skip_unreadable, limit=max_images)
    reference = next((p.name for p in planned if p.precision == "fp32"), planned[0].name)
    model_text = "no --model given: the reference is an artifact, not the Keras model itself"
    if run is not None:
        full, others = _full_and_peers(run, bundle, planned, count, bar, with_peers=peers)
        planned = [full, *planned, *others]
        reference, model_text = full.name, "the Keras model of the run"
    if mode == "none":
        planned = [p for p in planned if p.kind != "bare"]  # these only have a latency
    protocol = make_protocol(mode, count, planned)
    journal = Journal(
        out.with_name(f".{out.name}.partial"),
        fingerprint([
            str(bundle.path), bundle_digest(bundle.path), data.digest, mode, str(count), str(len(images)),
            *[f"{p.name} {p.size_bytes}" for p in planned],
        ]),
    )  # fmt: skip
    if journal.resumed:
        LOG.info(f"going on: {journal.resumed} steps were finished before")
    provenance: dict[str, Any] = {
        "reference": model_text,
        "calibration": bundle.provenance.get("calibration"),
        "training": {
            key: value for key, value in (bundle.provenance.get("training") or {}).items() if key != "subsets"
        },
        "export_versions": bundle.provenance.get("versions"),
    }
    measured = run_benchmark(
        bundle, planned, images, data, protocol, reference, provenance, journal, bar,
        pictures=6 if gallery else 0, swept=mode in _WITH_PEERS,
    )  # fmt: skip
    journal.remove()
    return measured


def _open_run(path: Path) -> TrainedRun:
    from sonoedge.train.quiet import quiet

    with quiet():
        from sonoedge.train.evaluation.run_folder import open_run
    return open_run(path)


def _full_and_peers(
    opened: TrainedRun, bundle: Bundle, planned: list[Planned], threads: int, bar: Bar, *, with_peers: bool
) -> tuple[Planned, list[Planned]]:
    from sonoedge.benchmarks.measure.candidates import Planned
    from sonoedge.benchmarks.measure.opening import Spec
    from sonoedge.train.quiet import quiet

    with quiet():
        from sonoedge.benchmarks.measure.peers import peers
    size = opened.model_path.stat().st_size
    spec = Spec("full", str(opened.path.resolve()), "", str(bundle.path), "keras", threads)
    full = Planned(FULL, "full", "keras", "fp32", size, opened.threshold, spec, scores=True)
    names = [p.name for p in planned if p.spec is not None and p.spec.kind == "artifact"]
    return full, peers(opened, bundle, names, None, threads, bar) if with_peers else []
