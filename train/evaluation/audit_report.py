"""The folder of ``audit --out``: audit.json, audit.md, worst-pairs.png, and groups.csv for ``train --groups``."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from sonoedge.edge_runtime.files import write_text_atomic
from sonoedge.edge_runtime.imaging.image import read_image
from sonoedge.train.data.audit import Audit, WorstPair, markdown
from sonoedge.train.evaluation.figures import plot_pairs
from sonoedge.train.folders import atomic_directory
from sonoedge.train.records.reader import write_record

SHEET_PAIRS = 12
"""Pairs on the contact sheet worst-pairs.png."""


def write_audit(audit: Audit, out: Path) -> None:
    """Write the folder of ``--out``.

    Raises:
        UsageError: ``out`` is another folder with content.
    """
    with atomic_directory(out, marker="audit.json") as folder:
        table = io.StringIO()
        rows = sorted(audit.group_of.items())
        csv.writer(table, lineterminator="\n").writerows([("image", "group"), *rows])
        write_text_atomic(folder / "groups.csv", table.getvalue())
        root = Path(audit.root)
        pictures = [
            (read_image(root / p.first), read_image(root / p.second), _caption(p))
            for p in audit.worst[:SHEET_PAIRS]
        ]
        if pictures:
            plot_pairs(pictures, folder / "worst-pairs.png")
        write_text_atomic(folder / "audit.md", markdown(audit))
        write_record(audit, folder / "audit.json", indent=1)


def _caption(pair: WorstPair) -> str:
    turn = f", turned {pair.angle}°" if pair.angle else ""
    mirror = ", mirrored" if pair.mirrored else ""
    warning = "" if pair.same_label else "DIFFERENT LABELS\n"
    return f"{warning}{pair.first}\n{pair.second}\ncorrelation {pair.correlation:.2f}{turn}{mirror}"
