"""Calibration and int8 quantization of a run's backbone, SonoEdge against TensorFlow's own converter.

``python scripts/measure/quantization_cost.py --model RUN``: both sides get the same float graph and images. Each
side runs in a process of its own, in alternating rounds. The figures are seconds, without imports and without the
conversion to float, and peak memory.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from sonoedge.benchmarks.measure.environment import how_made, this_command
from sonoedge.edge_runtime.device.peak_memory import peak_bytes
from sonoedge.edge_runtime.files import write_text_atomic
from sonoedge.train.quiet import quiet

SIDES = ("sonoedge", "tensorflow")


def main(argv: list[str] | None = None) -> int:
    """Measure and print; exit code 0 whatever the figures are."""
    parser = argparse.ArgumentParser(prog="python scripts/measure/quantization_cost.py", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, metavar="RUN", help="run folder")
    parser.add_argument("--data", type=Path, metavar="DIR", help="where the run's images are now")
    parser.add_argument("--images", type=int, default=300, help="calibration images (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("quantization_cost.json"), help="default: %(default)s")
    parser.add_argument("--about-weights", default="the run's", metavar="TEXT", help="for the JSON")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.side:
        print(json.dumps(measure_side(args.side, args.model, args.data, args.images)))
        return 0
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    memory = dict.fromkeys(SIDES, 0)
    for _ in range(args.rounds):
        for side in SIDES:
            found = _in_own_process(side, args)
            seconds[side].append(found["seconds"])
            memory[side] = max(memory[side], found["peak_bytes"])
    command = this_command("python scripts/measure/quantization_cost.py", argv)
    body = {
        **how_made([command], weights=args.about_weights),
        "images": args.images,
        "seconds": {side: round(median(values), 2) for side, values in seconds.items()},
        "peak_bytes": memory,
        "times_faster": round(median(seconds["tensorflow"]) / median(seconds["sonoedge"]), 2),
    }
    write_text_atomic(args.out, json.dumps(body, indent=2) + "\n")
    print(json.dumps(body, indent=2))
    return 0


def measure_side(side: str, model: Path, data: Path | None, images: int) -> dict[str, float]:
    """Seconds from the float graph to int8 bytes, and the peak memory of this process."""
    with quiet():
        from sonoedge.export.convert.splitting import split_model
        from sonoedge.export.formats import Source
        from sonoedge.export.quantize.calibration import calibration_from_run
        from sonoedge.train.evaluation.run_folder import load_subsets, open_run
        from sonoedge.train.models.fusion import load_model

    calibration = calibration_from_run(load_subsets(open_run(model), data), count=images, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        split = split_model(load_model(model))
        source = Source(split, calibration, Path(folder), Path(folder) / "cache", progress=False)
        saved, flatbuffer = source.backbone_saved_model, source.tflite_float
        start = perf_counter()
        if side == "tensorflow":
            _tensorflow(saved, calibration.inputs(split.input_size))
        else:
            from sonoedge.export.quantize.recipes import Recipe

            assert flatbuffer
            source.quantizer("tflite").build(Path(folder) / "backbone.tflite", Recipe())
        elapsed = perf_counter() - start
    return {"seconds": round(elapsed, 2), "peak_bytes": peak_bytes() or 0}


def _tensorflow(saved_model: Path, inputs: Iterator[Any]) -> bytes:
    """Quantize as TensorFlow's guide to post-training integer quantization says, with float inputs and outputs."""
    import tensorflow as tf

    with quiet():
        converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model))
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ({"image": value} for value in inputs)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        return bytes(converter.convert())


def _in_own_process(side: str, args: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, __file__, "--side", side, "--model", str(args.model)]
    command += ["--images", str(args.images), *(["--data", str(args.data)] if args.data else [])]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(result.stdout.strip().splitlines()[-1])
    return found


if __name__ == "__main__":
    sys.exit(main())
