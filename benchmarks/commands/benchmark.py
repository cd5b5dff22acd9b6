"""``sonoedge benchmark``: accuracy, size, memory and latency of every artifact and of the full model."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from sonoedge.benchmarks.records.runfile import MODE
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
    from sonoedge.benchmarks.records.runfile import Run
    from sonoedge.edge_runtime.device.profile import DeviceProfile


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
    parser.add_argument("--sustained", metavar="TIME", help=(
        "only run one artifact (--artifacts, else the first that can run) without a pause for a time such as 90s, "
        "10m or 1h, and write how latency, temperature and clock went; needs the device install"
    ))  # fmt: skip
    ARTIFACTS.add(parser, shown=RUNNABLE)
    CLASSES.add(parser)
    add_threads(parser)
    parser.add_argument(
        "--mode", default=MODE, metavar="rapid|quick|normal|none",
        help=(
            "latency: at least 32 queries and 5 s of each file; 128 and 10 s, 1024 and 60 s, both also with other "
            "numbers of threads (default: %(default)s)"
        ),
    )  # fmt: skip
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, help=(
        "also bare interpreters, other quantizers and clocks (default: in quick and normal)"
    ))  # fmt: skip
    parser.add_argument("--no-gallery", dest="gallery", action="store_false", help="without images in the report")
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
        "  sonoedge benchmark --autotune --bundle bundle --out pi5-profile.json\n"
        "  sonoedge benchmark --sustained 10m --bundle bundle --out pi5-sustained.json"
    )


def run(args: argparse.Namespace) -> int:
    """Measure, print the table and write the report. Exit code 6 if an artifact failed, else 0."""
    names = args.artifacts.split(",") if args.artifacts else None
    if args.autotune and args.sustained is not None:
        raise UsageError("--autotune and --sustained are two measurements: give one of them.")
    if args.sustained is not None:
        from sonoedge.benchmarks.commands.sustained import run_sustained

        return run_sustained(args, names)
    if args.autotune:
        return _autotune(args, names)
    if args.device_run is not None:
        return _device(args, names)
    # Here, not above: a device measures without `train`.
    from sonoedge.benchmarks.api import benchmark
    from sonoedge.train.arguments import call_with
    from sonoedge.train.terminal import shown

    with shown(lines=not args.json):
        report = call_with(benchmark, args)
    print(json.dumps(report.to_json(), allow_nan=False) if args.json else f"{report}\nwrote {report.path}")
    return ModelError.exit_code if report.failed else 0


def _device(args: argparse.Namespace, names: list[str] | None) -> int:
    from sonoedge.benchmarks.device.run import device_run
    from sonoedge.benchmarks.measure.progress import bars

    measured = device_run(
        args.device_run, args.out, artifacts=names, mode=args.mode, threads=args.threads, bar=bars(args.progress)
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
    profile = autotune(args.bundle, args.out, artifacts=names, mode=args.mode, bar=bars(args.progress))
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
