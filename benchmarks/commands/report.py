"""``sonoedge report``: merge runs of several machines, data sets and dates into one report; catch regressions."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sonoedge.benchmarks.records.runfile import REPORT, read_runs
from sonoedge.benchmarks.retention.regression import Comparison, Limits, compare_reports
from sonoedge.edge_runtime.commands.options import JSON, OUT
from sonoedge.edge_runtime.errors import DataError, ModelError, UsageError
from sonoedge.edge_runtime.files import write_text_atomic
from sonoedge.train.folders import check_replaceable

if TYPE_CHECKING:
    from sonoedge.benchmarks.retention.results import Result

REGRESSION_EXIT_CODE = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    limits = Limits()
    parser.add_argument("runs", nargs="+", type=Path, metavar="FILE", help="run files, or report.json files")
    OUT.add(parser, "the report", required=True)
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
    JSON.add(parser, "the report")
    parser.epilog = (
        f"Exit code {REGRESSION_EXIT_CODE}: something got worse than the baseline; 6: an artifact had failed.\n\n"
        "examples:\n"
        "  sonoedge report report/report.json pi5.json phone.json --out report-all\n"
        "  sonoedge report today/report.json --baseline last-release/report.json --out ci-report"
    )


def run(args: argparse.Namespace) -> int:
    """Write the merged report. Exit code 6 if an artifact had failed, else 10 after a regression, else 0."""
    from sonoedge.benchmarks.retention.results import result

    check_replaceable(args.out, marker=REPORT)
    for option, value in (("--max-slowdown", args.max_slowdown), ("--max-loss", args.max_loss)):
        if not value >= 0:
            raise UsageError(f"{option} cannot be negative. Received: {value}.")
    results = [result(one) for path in args.runs for one in read_runs(path)]
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
    from sonoedge.benchmarks.report.report import body, csv_text
    from sonoedge.benchmarks.report.text import markdown, table
    from sonoedge.benchmarks.retention.results import failures

    whole = body(results, comparison)
    write_text_atomic(out / "report.html", page(results, comparison))
    write_text_atomic(out / "report.md", markdown(results, comparison))
    write_text_atomic(out / "report.csv", csv_text(results))
    write_text_atomic(out / REPORT, json.dumps(whole, allow_nan=False) + "\n")
    print(json.dumps(whole, allow_nan=False) if as_json else f"{table(results, comparison)}\nwrote {out}")
    if failures(results):
        return ModelError.exit_code
    return REGRESSION_EXIT_CODE if comparison and comparison.regressions else 0
