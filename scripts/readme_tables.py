"""Write the tables of measured figures into the documents, from the JSON in docs/results.

    python scripts/readme_tables.py            # writes them
    python scripts/readme_tables.py --check    # exit code 1 where a document says something else

A table stands between ``<!-- table NAME -->`` and ``<!-- end -->``; nobody types it.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
DOCUMENTS = ("README.md", "export/README.md")
_PLACE = re.compile(r"(<!-- table (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> int:
    """Write or check."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--check", action="store_true", help="change nothing")
    args = parser.parse_args()
    stale = []
    for name in DOCUMENTS:
        path = ROOT / name
        text = path.read_text(encoding="utf-8")
        filled = _PLACE.sub(lambda m: f"{m[1]}{_table(m[2])}\n{m[3]}", text)
        if filled != text:
            stale.append(name)
            if not args.check:
                path.write_text(filled, encoding="utf-8")
    if stale and args.check:
        print(f"{', '.join(stale)}: tables differ from docs/results. Run: python scripts/readme_tables.py")
        return 1
    return 0


def decisions(body: dict[str, Any]) -> str:
    """Changed decisions by split and file."""
    lines = [
        "| split | full model, test AUC | file | int8 | changed, validation | changed, test [95 % by group] |",
        "|---|---|---|---|---|---|",
    ]
    for row in body["seeds"]:
        auc = row["test_auc"]
        for name, file in row["files"].items():
            flipped, images = file["validation"]
            lines.append(
                f"| seed {row['seed']} | {auc[0]:.3f} [{auc[1]:.3f}, {auc[2]:.3f}] | `{name}` | "
                f"{100 * file['int8_share']:.0f} % | {flipped} of {images} | {_changed(file['changed'])} |"
            )
    for name, count in body.get("pooled", {}).items():
        lines.append(f"| all images, each out of fold | | `{name}` | | | {_changed(count)} |")
    for name, file in body.get("external", {}).get("files", {}).items():
        lines.append(f"| another source, seed 0 | | `{name}` | | | {_changed(file['changed'])} |")
    return "\n".join(lines)


def ladder(body: dict[str, Any]) -> str:
    """What the guard measured, candidate by candidate."""
    lines = [
        "| file | candidate | MB | int8 | p50 ms (float32) | flipped [95 % by group] | expected flips "
        "| RMS logit error |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, rows in body["ladders"].items():
        exact = body["float32_p50_ms"][name.partition("-")[0]]
        for row in rows:
            bold = "**" if row.get("taken") else ""
            _, low, high = row["flips"]
            lines.append(
                f"| `{name}` | {bold}{row['candidate']}{bold} | {row['size_bytes'] / 1e6:.1f} | "
                f"{100 * row['int8_share']:.0f} % | {row['p50_ms']:.0f} ({exact:.0f}) | {row['flipped']} of "
                f"{row['images']} [{100 * low:.1f}, {100 * high:.1f} %] | {100 * row['expected_flips']:.1f} % | "
                f"{row['logit_error']:.3f} |"
            )
    return "\n".join(lines)


def _changed(count: dict[str, Any]) -> str:
    """``0 of 94 [0.0, 5.1 %]``."""
    low, high = count["interval"]
    return f"{count['events']} of {count['images']} [{100 * low:.1f}, {100 * high:.1f} %]"


def _table(name: str) -> str:
    return TABLES[name](json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8")))


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {"decisions": decisions, "ladder": ladder}

if __name__ == "__main__":
    sys.exit(main())
