"""Measure the files for integer hardware, with the estimates of Arm's compiler for each chip: integers.json.

    python scripts/measure/integers.py --model RUN --about-weights "real MobileNetV1"

The script types the commands, so the commands in the JSON are those that were run. What lies in the folder of
``--work`` is not made again. It needs the extra ``ethos-u``. Vela estimates; nothing ran on a chip.
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
from sonoedge.edge_runtime.files import write_text_atomic
from sonoedge.export.targets.table import TARGETS

_KEPT = ("compiler", "accelerator", "operators", "operators_on_npu", "cycles_npu", "cycles_total")
_COMPARED = ("candidate", "flipped", "flips", "images", "expected_flips", "auc_difference")


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing and write integers.json; exit code 0."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--model", type=Path, required=True, help="run of the compact recipe")
    parser.add_argument("--work", type=Path, default=Path("work"), help="for the bundles (default: ./work)")
    parser.add_argument("--about-weights", metavar="TEXT", required=True, help="what the weights are, for the JSON")
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="default: ./docs/results")
    args = parser.parse_args(argv)
    args.work.mkdir(parents=True, exist_ok=True)
    commands, rows = [], []
    for name in (target.name for target in TARGETS.values() if target.vela is not None):
        bundle = args.work / f"bundle-{name}"
        commands.append(step(bundle, "export", ["--model", args.model, "--target", name]))
        (artifact,) = read(bundle / "bundle.json")["artifacts"]
        metrics = artifact["metrics"]
        rows.append({
            "target": name, "size_bytes": artifact["size_bytes"],
            **{key: metrics["target"][key] for key in (*_KEPT, "memory_bytes", "clock_hz", "latency_ms")},
            **{key: metrics["validation"][key] for key in _COMPARED},
        })  # fmt: skip
    body = {**how_made(commands, weights=args.about_weights), "rows": rows}
    write_text_atomic(args.out / "integers.json", json.dumps(body, indent=1, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
