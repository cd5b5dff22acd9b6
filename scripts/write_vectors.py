"""Write tests/vectors: results of edge_runtime that the ports to Kotlin and JavaScript are compared with.

    python scripts/write_vectors.py             the JSON and picture files, from edge_runtime alone
    python scripts/write_vectors.py --bundle    both bundles first, through `sonoedge export` (needs TensorFlow)
    python scripts/write_vectors.py --cascade   the same, but the small bundle stays as it is
    python scripts/write_vectors.py --gate      fit the gates of both bundles again

Files (arrays are base64 of their C-order little-endian bytes, ``{"dtype", "shape", "data"}``):

    resize.json         generated pictures -> resized pictures
    heat.json           colour table; Grad-CAM maps -> heat maps and overlays
    decision.json       probabilities and thresholds -> labels
    assess.json         gates, hints, bands and probabilities -> verdicts, all combinations
    quality.json        generated pictures -> measures and hints
    gate.json           feature maps -> distances
    verdicts.json       generated pictures -> the whole answer; for a refused picture only the reason
    answers.json        the small bundle's artifacts on generated pictures
    pictures.json       the files in pictures/ -> decoded RGB as stored, or null if they are refused
    orientation.json    EXIF orientations -> the upright picture
    ed25519.json        keys, messages, signatures -> whether they belong together
    signature.json      SHA256SUMS.sig of the small bundle, allowed signers -> who signed, or words of the error
    bundle_errors.json  changes to the small bundle -> words that the error must hold
    bundle/             a real bundle of a few kilobytes, with a gate
    cascade_answers.json, cascade_decisions.json, cascade_errors.json, cascade/
                        the same for a bundle with a cascade: a smaller model with its own size in front of that one
    schema-1/           bundles of schema version 1, frozen; nothing writes them

Generated pictures need no file: see `noise` and `drawn` in scripts/vectors/generated.py.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.vectors.answers import (
    answer_vectors,
    assess_vectors,
    cascade_answer_vectors,
    cascade_decision_vectors,
    decision_vectors,
    gate_vectors,
    heat_vectors,
    verdict_vectors,
)
from scripts.vectors.bundles import write_bundle, write_cascade_bundle, write_gates
from scripts.vectors.errors import bundle_error_vectors, cascade_error_vectors
from scripts.vectors.generated import VECTORS
from scripts.vectors.pictures import (
    orientation_vectors,
    picture_files,
    picture_vectors,
    quality_vectors,
    resize_vectors,
)
from scripts.vectors.signatures import ed25519_vectors, signature_vectors
from sonoedge.edge_runtime.files import write_bytes_atomic, write_text_atomic


def write(folder: Path) -> None:
    """Write every JSON and picture file into a folder."""
    files = picture_files()
    for name, data in files.items():
        write_bytes_atomic(folder / "pictures" / name, data)
    for name, body in (
        ("resize", resize_vectors()),
        ("heat", heat_vectors()),
        ("decision", decision_vectors()),
        ("assess", assess_vectors()),
        ("quality", quality_vectors()),
        ("gate", gate_vectors()),
        ("verdicts", verdict_vectors()),
        ("answers", answer_vectors()),
        ("pictures", picture_vectors(files)),
        ("orientation", orientation_vectors()),
        ("bundle_errors", bundle_error_vectors()),
        ("cascade_answers", cascade_answer_vectors()),
        ("cascade_decisions", cascade_decision_vectors()),
        ("cascade_errors", cascade_error_vectors()),
        ("ed25519", ed25519_vectors()),
        ("signature", signature_vectors()),
    ):
        write_text_atomic(folder / f"{name}.json", json.dumps(body, indent=1, allow_nan=False) + "\n")


def main(argv: list[str] | None = None) -> int:
    """Write the bundles that are asked for, then all other files; exit code 0."""
    parser = argparse.ArgumentParser(description="Write tests/vectors from edge_runtime.")
    parser.add_argument("--bundle", action="store_true", help="export the small bundle and the cascade again, too")
    parser.add_argument("--cascade", action="store_true", help="export the cascade again, too")
    parser.add_argument("--gate", action="store_true", help="fit the gates of both bundles again")
    args = parser.parse_args(argv)
    if args.bundle:
        write_bundle(VECTORS / "bundle")
    if args.bundle or args.cascade:
        write_cascade_bundle(VECTORS / "cascade")
    if args.bundle or args.cascade or args.gate:
        write_gates(VECTORS / "bundle")
        write_gates(VECTORS / "cascade")
    write(VECTORS)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
