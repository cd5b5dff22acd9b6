"""``sonoedge report``: merge runs of several machines, data sets and dates into one report; catch regressions."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from sonoedge.benchmarks.records.runfile import REPORT, read_runs
from sonoedge.benchmarks.records.sustained import is_sustained, read_sustained
from sonoedge.benchmarks.report.report import body, csv_text
from sonoedge.benchmarks.report.sustained import SUSTAINED_PAGE, sustained_page
from sonoedge.benchmarks.report.text import markdown, table
from sonoedge.benchmarks.retention.regression import Comparison, Limits, compare_reports
from sonoedge.benchmarks.retention.results import Result, failures, result
from sonoedge.edge_runtime.errors import DataError, ModelError, UsageError
from sonoedge.edge_runtime.files import write_text_atomic
from sonoedge.train.folders import check_replaceable

REGRESSION_EXIT_CODE = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    limits = Limits()
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="FILE", help="run files, report.json files, sustained runs"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="report folder")
    parser.add_argument(
        "--baseline", type=Path, metavar="FILE", help="earlier run file or report.json to compare with"
    )
    parser.add_argument(
        "--max-slowdown", type=float, default=limits.slowdown, metavar="SHARE", help="of p50 (default: %(default)s)"
    )
    parser.add_argument(
        "--max-loss",
        type=float,
        default=limits.loss,
        metavar="SHARE",
        help="of accuracy and AUC (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print the report as one JSON object")
    parser.epilog = (
        f"Exit code {REGRESSION_EXIT_CODE}: something got worse than the baseline; 6: an artifact had failed.\n\n"
        "examples:\n"
        "  sonoedge report report/report.json pi5.json phone.json --out report-all\n"
        "  sonoedge report today/report.json --baseline last-release/report.json --out ci-report\n"
        "  sonoedge report pi5-sustained.json --out report-heat"
    )


def run(args: argparse.Namespace) -> int:
    """Write the merged report. Exit code 6 if an artifact had failed, else 10 after a regression, else 0."""
    # A folder with the picture of sustained runs alone is ours, too.
    check_replaceable(args.out, marker=SUSTAINED_PAGE if (args.out / SUSTAINED_PAGE).is_file() else REPORT)
    for option, value in (("--max-slowdown", args.max_slowdown), ("--max-loss", args.max_loss)):
        if not value >= 0:
            raise UsageError(f"{option} cannot be negative. Received: {value}.")
    sustained = [path for path in args.runs if is_sustained(path)]
    if sustained:
        write_text_atomic(args.out / SUSTAINED_PAGE, sustained_page([read_sustained(path) for path in sustained]))
        print(f"wrote {args.out / SUSTAINED_PAGE}", file=sys.stderr)
    runs = [path for path in args.runs if path not in sustained]
    if not runs and args.baseline is None:
        return 0
    if not runs:
        raise UsageError("--baseline compares run files; these are sustained runs.")
    results = [result(one) for path in runs for one in read_runs(path)]
    comparison = None
    if args.baseline is not None:
        limits = Limits(slowdown=args.max_slowdown, loss=args.max_loss)
        comparison = compare_reports([result(one) for one in read_runs(args.baseline)], results, limits)
        if not comparison.compared:
            raise DataError(
                f"Nothing in {args.baseline} can be compared with these runs: other machines and other images."
            )
    return finish(results, args.out, as_json=args.json, comparison=comparison)


def finish(results: Sequence[Result], out: Path, *, as_json: bool, comparison: Comparison | None = None) -> int:
    """Write all forms of the report and print it; returns the exit code (see `run`)."""
    from sonoedge.benchmarks.report.page import page

    whole = body(results, comparison)
    write_text_atomic(out / "report.html", page(results, comparison))
    write_text_atomic(out / "report.md", markdown(results, comparison))
    write_text_atomic(out / "report.csv", csv_text(results))
    write_text_atomic(out / REPORT, json.dumps(whole, allow_nan=False) + "\n")
    print(json.dumps(whole, allow_nan=False) if as_json else f"{table(results, comparison)}\nwrote {out}")
    if failures(results):
        return ModelError.exit_code
    return REGRESSION_EXIT_CODE if comparison and comparison.regressions else 0
