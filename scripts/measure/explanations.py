"""Measure which explanation to believe: explanations-methods.json.

    python scripts/measure/explanations.py --bundle BUNDLE --data BUSI --about-weights "real MobileNetV1"

The script types the command, so the command in the JSON is the one that was run. What lies in the folder of
``--work`` is not made again, and an interrupted measurement goes on. It needs the extra ``xai``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.measure.published import read, step
from sonoedge.benchmarks.measure.environment import how_made
from sonoedge.edge_runtime.explain.methods.table import METHODS
from sonoedge.edge_runtime.files import write_text_atomic

ARTIFACT = "tflite-int8"


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing and write explanations-methods.json; exit code 0."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--bundle", type=Path, required=True, help="bundle of the compact recipe")
    parser.add_argument("--data", type=Path, required=True, help="BUSI")
    parser.add_argument("--max-images", default="0", metavar="N", help="of the test images (default: all)")
    parser.add_argument("--work", type=Path, default=Path("work"), help="for the report (default: ./work)")
    parser.add_argument("--about-weights", metavar="TEXT", required=True, help="what the weights are, for the JSON")
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="default: ./docs/results")
    args = parser.parse_args(argv)
    args.work.mkdir(parents=True, exist_ok=True)
    report = args.work / "explanations"
    command = step(report, "benchmark-explain", [
        "--bundle", args.bundle, "--data", args.data, "--artifacts", ARTIFACT, "--methods", ",".join(METHODS),
        "--max-images", args.max_images, "--faithfulness-images", 0, "--timing-runs", 0, "--threads", 1,
    ])  # fmt: skip
    found = read(report / "explanation.json")
    body = {
        **how_made([command], weights=args.about_weights, threads=1),
        "bundle": found["bundle"],
        "methods": _rounded(found["methods"]),
    }
    write_text_atomic(args.out / "explanations-methods.json", json.dumps(body, indent=1, ensure_ascii=False) + "\n")
    return 0


def _rounded(found: dict) -> dict:
    text = json.dumps(found)
    rounded: dict = json.loads(text, parse_float=lambda number: round(float(number), 4))
    return rounded


if __name__ == "__main__":
    sys.exit(main())
