"""``sonoedge report``: merge runs of several machines, data sets and dates into one report; catch regressions."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from sonoedge.benchmarks.api import write_report, write_sustained
from sonoedge.benchmarks.records.sustained import is_sustained
from sonoedge.edge_runtime.commands.options import JSON, OUT
from sonoedge.edge_runtime.errors import ModelError
from sonoedge.train.arguments import call_with, take_defaults
from sonoedge.train.terminal import shown

if TYPE_CHECKING:
    pass

REGRESSION_EXIT_CODE = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="FILE", help="run files, report.json files, sustained runs"
    )
    OUT.add(parser, "the report", required=True)
    parser.add_argument(
        "--baseline", type=Path, metavar="FILE", help="earlier run file or report.json to compare with"
    )
    parser.add_argument("--max-slowdown", type=float, metavar="SHARE", help="of p50 (default: %(default)s)")
    parser.add_argument(
        "--max-loss",
        type=float,
        metavar="SHARE",
        help="of accuracy and AUC (default: %(default)s)",
    )
    JSON.add(parser, "the report")
    take_defaults(parser, write_report)
    parser.epilog = (
        f"Exit code {REGRESSION_EXIT_CODE}: something got worse than the baseline; 6: an artifact had failed.\n\n"
        "examples:\n"
        "  sonoedge report report/report.json pi5.json phone.json --out report-all\n"
        "  sonoedge report today/report.json --baseline last-release/report.json --out ci-report\n"
        "  sonoedge report pi5-sustained.json --out report-heat"
    )


def run(args: argparse.Namespace) -> int:
    """Write the merged report. Exit code 6 if an artifact had failed, else 10 after a regression, else 0."""
    sustained = [path for path in args.runs if is_sustained(path)]
    args.runs = [path for path in args.runs if path not in sustained]
    with shown(lines=not args.json):
        if sustained:
            write_sustained(sustained, args.out)
            if not args.runs and args.baseline is None:
                return 0
        report = call_with(write_report, args)
    print(json.dumps(report.to_json(), allow_nan=False) if args.json else f"{report}\nwrote {report.path}")
    if report.failed:
        return ModelError.exit_code
    return REGRESSION_EXIT_CODE if report.regressions else 0
