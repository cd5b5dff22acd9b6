"""``sonoedge benchmark``: accuracy, size, memory and latency of every artifact and of the full model."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sonoedge.benchmarks.records.runfile import REPORT
from sonoedge.edge_runtime.bundle.checksums import bundle_digest
from sonoedge.edge_runtime.commands.options import (
    ARTIFACTS,
    CLASSES,
    DATA,
    JSON,
    MAX_IMAGES,
    MODEL,
    OUT,
    QUIET,
    RUNNABLE,
    SKIP_UNREADABLE,
    add_bundle,
    add_threads,
)
from sonoedge.edge_runtime.errors import ModelError, UsageError
from sonoedge.edge_runtime.terminal import Column, fitted
from sonoedge.edge_runtime.words import INTENDED_USE

if TYPE_CHECKING:
    from sonoedge.benchmarks.measure.candidates import Bar, Planned
    from sonoedge.benchmarks.records.runfile import Run
    from sonoedge.edge_runtime.bundle.contract import Bundle
    from sonoedge.edge_runtime.device.profile import DeviceProfile

FULL = "full Keras model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    add_bundle(parser)
    DATA.add(parser, "the training data, or external images", type=Path)
    OUT.add(parser, "the report; with --device-run and --autotune, a file", required=True)
    MODEL.add(parser, "its full Keras model is the reference")
    parser.add_argument(
        "--device-run", type=Path, metavar="BUNDLE",
        help="only time this bundle on this machine and write a run file; needs the device install",
    )  # fmt: skip
    parser.add_argument("--autotune", action="store_true", help=(
        "only find the fastest file and number of threads for this machine, and write a device profile for "
        "--profile of predict, explain, stream and serve; needs the device install"
    ))  # fmt: skip
    ARTIFACTS.add(parser, shown=RUNNABLE)
    CLASSES.add(parser)
    add_threads(parser)
    parser.add_argument(
        "--mode", default="rapid", metavar="rapid|quick|normal|none",
        help="latency: at least 64 queries and 6 s each, 128 and 10 s, 1024 and 60 s (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--no-peers", action="store_true", help="without other quantizers and clocks")
    parser.add_argument("--no-gallery", action="store_true", help="without images in the report")
    MAX_IMAGES.add(parser, shown="all")
    SKIP_UNREADABLE.add(parser)
    QUIET.add(parser)
    JSON.add(parser, "the report")
    parser.epilog = (
        "Images that the model was trained on are recognised by their digest and left out; images it never saw\n"
        "are external data. An interrupted run goes on where it was. Exit code 6: an artifact failed; the rest is\n"
        "reported.\n\n"
        "examples:\n"
        "  sonoedge benchmark --bundle bundle --data BUSI --model runs/busi --out report\n"
        "  sonoedge benchmark --bundle bundle --data BUS-BRA --model runs/busi --out report-external\n"
        "  sonoedge benchmark --device-run bundle --out pi5.json        (on the Raspberry Pi)\n"
        "  sonoedge report report/report.json pi5.json --out report-all\n"
        "  sonoedge benchmark --autotune --bundle bundle --out pi5-profile.json"
    )


def run(args: argparse.Namespace) -> int:
    """Measure, print the table and write the report. Exit code 6 if an artifact failed, else 0."""
    names = args.artifacts.split(",") if args.artifacts else None
    if args.autotune:
        return _autotune(args, names)
    if args.device_run is not None:
        return _device(args, names)
    if args.data is None:
        raise UsageError("--data DIR is needed; only --device-run does without images.")
    if args.max_images is not None and args.max_images < 2:
        raise UsageError(f"--max-images must be at least 2. Received: {args.max_images}.")
    # Here, not above: a device measures without `train`.
    from sonoedge.train.folders import check_replaceable

    check_replaceable(args.out, marker=REPORT)
    from sonoedge.benchmarks.commands.report import finish
    from sonoedge.benchmarks.retention.results import result

    measured = benchmark(
        args.bundle,
        args.data,
        args.out,
        model=args.model,
        artifacts=names,
        classes=args.classes.split(",") if args.classes else None,
        threads=args.threads,
        mode=args.mode,
        with_peers=not args.no_peers,
        with_gallery=not args.no_gallery,
        max_images=args.max_images,
        skip_unreadable=args.skip_unreadable,
        progress=not args.quiet,
    )
    return finish([result(measured)], args.out, as_json=args.json)


def benchmark(
    bundle_path: Path,
    folder: Path,
    out: Path,
    *,
    model: Path | None = None,
    artifacts: list[str] | None = None,
    classes: list[str] | None = None,
    threads: int | None = None,
    mode: str = "rapid",
    with_peers: bool = True,
    with_gallery: bool = True,
    max_images: int | None = None,
    skip_unreadable: bool = False,
    progress: bool = True,
) -> Run:
    """Run the benchmark; see ``sonoedge benchmark --help``. Finished steps are kept beside ``out`` until the end.

    Args:
        bundle_path: bundle folder.
        folder: images, of the training data or external.
        out: report folder; only the file of finished steps is written here, beside it.
        model: run folder with the full Keras model; None compares with an artifact.
        artifacts: names; None takes all that can run here.
        classes: class folders, the positive one last; None takes the bundle's labels.
        threads: for interpreters; None takes `edge_runtime.backends.default_threads`.
        mode: one of `benchmarks.measure.candidates.MODES`, or ``none`` for no latency.
        with_peers: with a ``model``, also measure other quantizers and clocks.
        with_gallery: keep images with heat maps in the result.
        max_images: at most this many images; None for all.
        skip_unreadable: leave broken images out.
        progress: show progress bars.

    Raises:
        BundleError, DataError, ModelError, UsageError: an input cannot be read or does not fit.
    """
    from sonoedge.benchmarks.device.run import fingerprint
    from sonoedge.benchmarks.measure.candidates import Journal
    from sonoedge.benchmarks.measure.planning import artifact_candidates, checked_threads, make_protocol
    from sonoedge.benchmarks.measure.progress import bars
    from sonoedge.benchmarks.measure.selection import load_selection
    from sonoedge.benchmarks.retention.assembly import run_benchmark
    from sonoedge.edge_runtime.bundle.trust import load_trusted

    bar = bars(progress)
    count = checked_threads(threads)
    bundle = load_trusted(bundle_path)
    bundle = replace(bundle, path=bundle.path.resolve())
    planned = artifact_candidates(bundle, artifacts, count)
    make_protocol(mode, count, planned)
    data, images = load_selection(bundle, folder, classes, skip_unreadable=skip_unreadable, limit=max_images)
    reference = next((p.name for p in planned if p.precision == "fp32"), planned[0].name)
    model_text = "no --model given: the reference is an artifact, not the Keras model itself"
    if model is not None:
        full, others = _full_and_peers(model, bundle, planned, count, bar, with_peers=with_peers)
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
        print(f"going on: {journal.resumed} steps were finished before", file=sys.stderr)
    provenance = {
        "reference": model_text,
        "calibration": bundle.provenance.get("calibration"),
        "training": {
            key: value for key, value in (bundle.provenance.get("training") or {}).items() if key != "subsets"
        },
        "export_versions": bundle.provenance.get("versions"),
    }
    pictures = 6 if with_gallery else 0
    measured = run_benchmark(
        bundle, planned, images, data, protocol, reference, provenance, journal, bar, pictures=pictures
    )
    journal.remove()
    return measured


def _full_and_peers(
    model: Path, bundle: Bundle, planned: list[Planned], threads: int, bar: Bar, *, with_peers: bool
) -> tuple[Planned, list[Planned]]:
    from sonoedge.benchmarks.measure.candidates import Planned
    from sonoedge.benchmarks.measure.opening import Spec
    from sonoedge.train.quiet import quiet

    with quiet():
        from sonoedge.benchmarks.measure.peers import peers
        from sonoedge.train.evaluation.run_folder import open_run
    opened = open_run(model)
    size = opened.model_path.stat().st_size
    spec = Spec("full", str(opened.path.resolve()), "", str(bundle.path), "keras", threads)
    full = Planned(FULL, "full", "keras", "fp32", size, opened.threshold, spec, scores=True)
    names = [p.name for p in planned if p.spec is not None and p.spec.kind == "artifact"]
    return full, peers(opened, bundle, names, None, threads, bar) if with_peers else []


def _device(args: argparse.Namespace, names: list[str] | None) -> int:
    from sonoedge.benchmarks.device.run import device_run
    from sonoedge.benchmarks.measure.progress import bars

    measured = device_run(
        args.device_run, args.out, artifacts=names, mode=args.mode, threads=args.threads, bar=bars(not args.quiet)
    )
    print(device_table(measured))
    print(f"wrote {args.out}")
    failed = [candidate.name for candidate in measured.candidates if candidate.error]
    return ModelError.exit_code if failed else 0


def _autotune(args: argparse.Namespace, names: list[str] | None) -> int:
    from sonoedge.benchmarks.device.autotune import autotune
    from sonoedge.benchmarks.measure.progress import bars

    given = {"--data": args.data, "--model": args.model, "--device-run": args.device_run, "--threads": args.threads}
    if extra := [option for option, value in given.items() if value is not None]:
        raise UsageError(f"--autotune chooses among the files of --bundle by their latency; leave {extra[0]} out.")
    profile = autotune(args.bundle, args.out, artifacts=names, mode=args.mode, bar=bars(not args.quiet))
    print(args.out.read_text(encoding="utf-8") if args.json else profile_table(profile, args.out))
    return 0


def profile_table(profile: DeviceProfile, out: Path) -> str:
    """The tried files and threads, the choice and its reason, in plain text."""
    rows = []
    for t in sorted(profile.measured, key=lambda t: (t.typical_ms is None, t.typical_ms or 0.0)):
        time = f"{t.typical_ms:.1f}" if t.typical_ms is not None else ""
        rounds = f"{t.low_ms:.1f}–{t.high_ms:.1f}" if t.low_ms is not None else ""
        rows.append([t.artifact, str(t.threads or ""), time, rounds, t.note])
    titles = {"threads": 8, "ms": 9, "rounds": 18}
    columns = [Column("", 20, left=True), *(Column(*title) for title in titles.items()), Column("", left=True)]
    lines = [fitted(columns, rows), "", f"{profile.reason}."]
    return "\n".join([*lines, f"wrote {out}; use it with --profile {out}", INTENDED_USE])


def device_table(measured: Run) -> str:
    """Latency and memory in plain text; needs no package that a device lacks."""
    from sonoedge.benchmarks.measure.turns import typical_ms

    rows = []
    for c in measured.candidates:
        if c.error:
            rows.append([c.name, f"failed: {c.error}"])
            continue
        p50 = f"{typical_ms(c.timing, c.escalated):.1f}" if c.timing else ""
        memory = f"{c.peak_bytes / 1e6:.0f}" if c.peak_bytes else ""
        init, first = (f"{value:.1f}" if value is not None else "" for value in (c.init_ms, c.first_ms))
        rows.append([c.name, init, first, p50, memory])
    titles = {"init ms": 9, "first ms": 10, "p50 ms": 9, "peak MB": 9}
    lines = [fitted([Column("", 32, left=True), *(Column(*title) for title in titles.items())], rows)]
    if measured.invalid:
        lines.append(f"INVALID: {measured.invalid}")
    lines.append(measured.intended_use)
    return "\n".join(lines)
