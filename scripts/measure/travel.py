"""Measure how training choices travel to a source that was left out: travel.json.

    python scripts/measure/travel.py --data BUSI --data BUS-UCLM --data BUS-UC --weights WEIGHTS --work work \
        --rows copies,compact --screen --about-weights "real MobileNetV1"

The script types ``sonoedge cross-validate --leave-one-source-out``; the JSON names the command as it was run.
Finished folds in the folder of ``--work`` are not run again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.measure.published import augmentation_of, read
from scripts.measure.running import called
from sonoedge.benchmarks.measure.environment import how_made, this_command
from sonoedge.edge_runtime.files import write_text_atomic


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing and write travel.json; exit code 0."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--data", type=Path, action="append", required=True, help="a source; once for each")
    parser.add_argument("--weights", type=Path, required=True, help="backbone weights, as for train")
    parser.add_argument("--rows", required=True, help="rows of cross-validate, the baseline first")
    parser.add_argument("--screen", action="store_true", help="as for cross-validate")
    parser.add_argument("--work", type=Path, default=Path("work"), help="the folds (default: ./work)")
    parser.add_argument("--about-weights", metavar="TEXT", help="what the weights are, for the JSON")
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="default: ./docs/results")
    args = parser.parse_args(argv)
    work: Path = args.work
    work.mkdir(parents=True, exist_ok=True)
    given: list[object] = [part for folder in args.data for part in ("--data", folder)]
    given += ["--weights", args.weights, "--leave-one-source-out", "--rows", args.rows, "--without-stress"]
    given += ["--screen"] if args.screen else []
    given += ["--out", work / "travel"]
    called("cross-validate", given, work / "travel.log")
    command = this_command("sonoedge cross-validate", list(map(str, given)))
    body = {
        **how_made([command], weights=args.about_weights or f"files of {args.weights.name}"),
        **augmentation_of(read(work / "travel" / "ablation.json")),
    }
    write_text_atomic(args.out / "travel.json", json.dumps(body, indent=1, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
