"""``sonoedge benchmark --sustained``: the terminal's side of `benchmarks.device.sustained`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from sonoedge.benchmarks.records.sustained import Moment, Sustained
from sonoedge.edge_runtime.errors import ModelError, UsageError
from sonoedge.edge_runtime.terminal import Column, fitted

_COLUMNS = (
    Column("seconds", 13), Column("frames", 9), Column("p50 ms", 9), Column("p90 ms", 9), Column("p99 ms", 9),
    Column("°C", 7), Column("MHz", 8),
)  # fmt: skip
_INTERRUPTED = 130


def run_sustained(args: argparse.Namespace, names: list[str] | None) -> int:
    """Measure and print. Exit code 130 after Ctrl-C and 6 after a crash; what was measured is written then, too."""
    from sonoedge.benchmarks.device.sustained import parse_duration, sustained

    given = {"--data": args.data, "--model": args.model, "--device-run": args.device_run}
    if extra := [option for option, value in given.items() if value is not None]:
        raise UsageError(f"--sustained runs one artifact of --bundle, without images; leave {extra[0]} out.")
    if names is not None and len(names) != 1:
        raise UsageError(f"--sustained runs one artifact. Received: {', '.join(names)}.")
    seconds = parse_duration(args.sustained)
    measured = sustained(
        args.bundle,
        args.out,
        seconds,
        artifact=names[0] if names else None,
        threads=args.threads,
        tell=_teller(seconds, progress=args.progress),
    )
    if args.progress and sys.stderr.isatty():
        print(file=sys.stderr)
    print(args.out.read_text(encoding="utf-8") if args.json else sustained_table(measured))
    if not args.json:
        print(f"wrote {args.out}; draw it with: sonoedge report {args.out} --out REPORT")
    if measured.stopped:
        print(f"stopped after {measured.whole.end_s:.0f} of {seconds:.0f} s: {measured.stopped}", file=sys.stderr)
        return _INTERRUPTED if measured.stopped == "interrupted" else ModelError.exit_code
    return 0


def sustained_table(measured: Sustained) -> str:
    """About ten lines over the time, the whole run and the verdict, in plain text."""
    rows = []
    step = -(-len(measured.windows) // 12)
    for window in measured.windows[::step]:
        moment = next((m for m in measured.moments if m.at_s >= window.start_s), measured.moments[-1])
        figures = (window.p50_ms, window.p90_ms, window.p99_ms)
        rows.append(
            [f"{window.start_s:.0f}–{window.end_s:.0f}", str(window.frames)]
            + ["" if value is None else f"{value:.1f}" for value in figures]
            + [_rounded(moment.temperature_c), _rounded(moment.clock_mhz)]
        )
    lines = [fitted(_COLUMNS, rows)]
    whole = measured.whole
    lines.append(
        f"{measured.artifact}, {measured.threads} threads: {whole.frames} frames in {whole.end_s:.0f} s, "
        f"p50 {whole.p50_ms:.1f} ms"
        + "".join(
            f", {name} {value:.1f} ms" for name, value in (("p90", whole.p90_ms), ("p99", whole.p99_ms)) if value
        )
    )
    return "\n".join([*lines, measured.verdict, measured.intended_use])


def _teller(seconds: float, *, progress: bool) -> Callable[[float, float, Moment], None]:
    """Progress: one line that changes on a terminal, about ten lines elsewhere."""
    changing, told = sys.stderr.isatty(), [-1]

    def tell(gone: float, p50_ms: float, moment: Moment) -> None:
        tenth = int(10 * gone / seconds)
        if not progress or (not changing and tenth == told[0]):
            return
        told[0] = tenth
        heat = "" if moment.temperature_c is None else f", {moment.temperature_c:.0f} °C"
        text = f"{gone:5.0f} of {seconds:.0f} s: p50 {p50_ms:.1f} ms{heat}"
        print(f"\r{text:<60}" if changing else text, end="" if changing else "\n", file=sys.stderr, flush=True)

    return tell


def _rounded(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"
