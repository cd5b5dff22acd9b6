"""Measure what the documents show of one default run: benchmark.json, candidates.json, augmentation.json.

    python scripts/measure/published.py --data BUSI --weights WEIGHTS --work work --about-weights "stand-ins (…)"

The script types the commands, so the commands in the JSON are those that were run. What lies in the folder of
``--work`` is not made again. decisions.json has a script of its own, `decisions.py`. Then call `result_tables.py`.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.measure.running import called
from sonoedge.benchmarks.measure.environment import how_made, this_command
from sonoedge.edge_runtime.files import write_text_atomic

INT8 = "tflite-int8,openvino-int8"
_KINDS = {"full", "artifact", "peer"}
_QUALITY = ("accuracy", "auc", "sensitivity", "specificity")
_KEPT_OF_CANDIDATES = (
    "candidate", "size_bytes", "int8_share", "p50_ms", "images", "groups", "flipped", "flips", "expected_flips",
    "logit_error", "threshold", "verdict", "groups_missing",
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing and write the three files; exit code 0."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--data", type=Path, required=True, help="BUSI")
    parser.add_argument("--weights", type=Path, required=True, help="backbone weights, as for train")
    parser.add_argument("--work", type=Path, default=Path("work"), help="run, bundles, report (default: ./work)")
    parser.add_argument("--mode", default="rapid", help="of the benchmark (default: %(default)s)")
    parser.add_argument("--about-weights", metavar="TEXT", help="what the weights are, for the JSON")
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="default: ./docs/results")
    args = parser.parse_args(argv)
    about = args.about_weights or f"files of {args.weights.name}"
    work, data = args.work, ["--data", args.data]
    work.mkdir(parents=True, exist_ok=True)

    train = step(work / "run", "train", [*data, "--weights", args.weights])
    int8 = step(work / "int8", "export", ["--model", work / "run", "--format", INT8])
    everything = step(work / "bundle", "export", ["--model", work / "run", "--format", "all"])
    model = ["--bundle", work / "bundle", "--model", work / "run"]
    report = step(work / "report", "benchmark", [*model, *data, "--mode", args.mode, "--peers"])
    rows = ["--weights", args.weights, "--rows", "stages,copies"]
    folds = step(work / "ablation", "cross-validate", [*data, *rows])

    def write(name: str, commands: Sequence[str], body: Mapping[str, Any]) -> None:
        text = json.dumps({**how_made(commands, weights=about), **body}, indent=1, ensure_ascii=False)
        write_text_atomic(args.out / name, text + "\n")

    write("benchmark.json", [train, everything, report], benchmark_of(read(work / "report" / "report.json")))
    manifest, log = read(work / "int8" / "bundle.json"), (work / "int8.log").read_text(encoding="utf-8")
    write("candidates.json", [train, int8], candidates_of(manifest, log))
    write("augmentation.json", [folds], augmentation_of(read(work / "ablation" / "ablation.json")))
    return 0


def step(out: Path, command: str, arguments: Sequence[object]) -> str:
    """Run ``sonoedge COMMAND … --out OUT``, unless OUT is there; returns it as it is typed."""
    given = [*arguments, "--out", out]
    if not out.exists():
        called(command, given, out.with_suffix(".log"))
    return this_command(f"sonoedge {command}", list(map(str, given)))


def read(path: Path) -> dict[str, Any]:
    """A JSON file."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def benchmark_of(report: Mapping[str, Any]) -> dict[str, Any]:
    """The first run of report.json as the tables need it: protocol, data and a row for each file."""
    run, rows = report["runs"][0], report["results"][0]
    of_candidate = {candidate["name"]: candidate for candidate in run["candidates"]}
    return {
        "protocol": run["protocol"],
        "data": {
            "name": run["data"]["name"], "kind": run["data"]["kind"], "images": len(run["data"]["images"]),
        },
        "rows": [
            _row(row, of_candidate[row["name"]]["precision"]) for row in rows
            if row["kind"] in _KINDS and row["scores"]
        ],
    }  # fmt: skip


def _row(row: Mapping[str, Any], precision: str) -> dict[str, Any]:
    metrics, kept, maps = row["scores"]["metrics"], row["scores"]["retention"], row["explanation"]
    speed = row["speed"] or {}
    return {
        "name": row["name"],
        "kind": row["kind"],
        "precision": precision,
        "size_bytes": row["size_bytes"],
        "peak_bytes": row["peak_bytes"],
        "p50_ms": speed.get("p50_ms"),
        "p90_ms": speed.get("p90_ms"),
        "bare_ratio": row["bare_ratio"],
        **{name: [round(metrics[name][end], 4) for end in ("value", "low", "high")] for name in _QUALITY},
        "changed": kept and kept["flips"]["total"],
        "heatmap_cosine": maps and maps["cosine"]["value"],
    }


def candidates_of(manifest: Mapping[str, Any], log: str) -> dict[str, Any]:
    """What the guard measured, from bundle.json, and what only the output of `export` says: float32's time."""
    found = measured_candidates(manifest)
    times = [float(ms) for ms in re.findall(r"\bfloat32 (\d+\.\d+) ms", log)]
    runtimes = [name.partition("-")[0] for name in found]
    seconds = re.search(r"^(\d+) s$", log, re.MULTILINE)
    return {
        "float32_p50_ms": dict(zip(runtimes, times, strict=True)),
        "candidates": found,
        "seconds": {"whole export": int(seconds[1]) if seconds else None},
    }


def measured_candidates(manifest: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The candidates of each file that the guard chose, from bundle.json."""
    found = {}
    for artifact in manifest["artifacts"]:
        if "candidates" in artifact["metrics"]:
            taken = artifact["metrics"]["validation"]["candidate"]
            found[artifact["name"]] = [
                {key: row[key] for key in _KEPT_OF_CANDIDATES}
                | ({"taken": True} if row["candidate"] == taken else {})
                for row in artifact["metrics"]["candidates"]
                if "error" not in row
            ]
    return found


def augmentation_of(ablation: Mapping[str, Any]) -> dict[str, Any]:
    """Rows and paired differences of ablation.json, without its images."""
    kept = ("facts", "rows", "pairs", "intended_use")
    rounded: dict[str, Any] = json.loads(
        json.dumps({key: ablation[key] for key in kept}), parse_float=lambda text: round(float(text), 4)
    )
    return rounded


if __name__ == "__main__":
    sys.exit(main())
