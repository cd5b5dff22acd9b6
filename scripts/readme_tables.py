"""Write the tables of measured figures into the documents, from the JSON in docs/results.

    python scripts/readme_tables.py            # writes the tables
    python scripts/readme_tables.py --check    # exit code 1 if a document has other figures

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

from sonoedge.train.markdown import markdown_table

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
DOCUMENTS = ("README.md", "export/README.md", "edge_runtime/serve/README.md")
_PLACE = re.compile(r"(<!-- table (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> int:
    """Write or check the tables; exit code 1 if a check finds a difference."""
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


def front(body: dict[str, Any]) -> str:
    """Table of the few figures at the beginning of the README; ``body`` is benchmark.json."""
    rows = {row["name"]: row for row in body["rows"]}
    counts = json.loads((RESULTS / "decisions.json").read_text(encoding="utf-8"))
    changed = [row["files"]["tflite-int8"]["changed"] for row in counts["seeds"]]
    pooled = counts["pooled"]["tflite-int8"]
    names = ("tflite-fp32", "tflite-int8", "openvino-int8")
    sizes = ", ".join(f"{rows[name]['size_bytes'] / 1e6:.1f}" for name in names)
    peers = ", ".join(f"{row['changed']} ({name})" for name, row in rows.items() if row["kind"] == "peer")
    share = counts["seeds"][0]["files"]["tflite-int8"]["int8_share"]
    total = f"{sum(c['events'] for c in changed)} of {sum(c['images'] for c in changed)}"
    rows = {
        f"decisions changed by `tflite-int8`: test images of {len(changed)} seeds; all images, each out of fold": (
            f"**{total}; {pooled['events']} of {pooled['images']}**"
        ),
        "the same of other int8 converters, seed 0": f"{peers}, of {body['data']['images']}",
        "size: float32, `tflite-int8`, `openvino-int8`": f"{sizes} MB",
        "multiply-adds of that file in int8": f"{100 * share:.0f} %",
    }
    return markdown_table(["the two commands below, with defaults, on BUSI", ""], rows.items())


def benchmark(body: dict[str, Any]) -> str:
    """Table of quality and cost of every file; ``body`` is benchmark.json."""
    head = ["file", "MB", "p50 ms", "decisions changed", "accuracy", "AUC [95 %]", "heat map kept", "peak MB"]
    lines = []
    for row in body["rows"]:
        name = {"artifact": f"`{row['name']}`", "peer": f"*{row['name']}*"}.get(row["kind"], row["name"])
        changed = "–" if row["changed"] is None else f"{row['changed']} of {body['data']['images']}"
        kept = "–" if row["heatmap_cosine"] is None else f"{row['heatmap_cosine']:.4f}"
        value, low, high = row["auc"]
        lines.append([
            name, f"{row['size_bytes'] / 1e6:.1f}", f"{row['p50_ms']:.0f}", changed, f"{row['accuracy'][0]:.3f}",
            f"{value:.3f} [{low:.3f}, {high:.3f}]", kept, f"{row['peak_bytes'] / 1e6:.0f}",
        ])  # fmt: skip
    return markdown_table(head, lines)


def decisions(body: dict[str, Any]) -> str:
    """Table of changed decisions by split and file; ``body`` is decisions.json."""
    head = ["split", "full model, test AUC", "file", "int8", "changed, validation", "changed, test [95 % by group]"]
    lines = []
    for row in body["seeds"]:
        auc = row["test_auc"]
        for name, file in row["files"].items():
            flipped, images = file["validation"]
            lines.append([
                f"seed {row['seed']}", f"{auc[0]:.3f} [{auc[1]:.3f}, {auc[2]:.3f}]", f"`{name}`",
                f"{100 * file['int8_share']:.0f} %", f"{flipped} of {images}", _changed(file["changed"]),
            ])  # fmt: skip
    for name, count in body.get("pooled", {}).items():
        lines.append(["all images, each out of fold", "", f"`{name}`", "", "", _changed(count)])
    for name, file in body.get("external", {}).get("files", {}).items():
        lines.append(["another source, seed 0", "", f"`{name}`", "", "", _changed(file["changed"])])
    return markdown_table(head, lines)


def candidates(body: dict[str, Any]) -> str:
    """Table of the guard's figures for each candidate; ``body`` is candidates.json."""
    head = ["file", "candidate", "MB", "int8", "p50 ms (float32)", "flipped [95 % by group]", "expected flips"]
    lines = []
    for name, rows in body["candidates"].items():
        exact = body["float32_p50_ms"][name.partition("-")[0]]
        for row in rows:
            bold = "**" if row.get("taken") else ""
            _, low, high = row["flips"]
            lines.append([
                f"`{name}`", f"{bold}{row['candidate']}{bold}", f"{row['size_bytes'] / 1e6:.1f}",
                f"{100 * row['int8_share']:.0f} %", f"{row['p50_ms']:.0f} ({exact:.0f})",
                f"{row['flipped']} of {row['images']} [{100 * low:.1f}, {100 * high:.1f} %]",
                f"{100 * row['expected_flips']:.1f} %", f"{row['logit_error']:.3f}",
            ])  # fmt: skip
    return markdown_table([*head, "RMS logit error"], lines)


def gate(body: dict[str, Any]) -> str:
    """Table of what the out-of-domain gate refuses and flags; ``body`` is gate.json."""
    titles = {
        "photos": "photographs, in colour",
        "photos, grey": "the same in grey",
        "uclm": "BUS-UCLM (Siemens)",
        "uc": "BUS-UC (web atlas, mixed scanners)",
        "bra": "BUS-BRA (external, chose nothing)",
    }
    own = body["out_of_fold"]
    head = ["images", "n", "refused", "of these by distance", "flagged or refused", "AUC, all and answered"]
    share, _, high = map(_percent, own["refused_share"])
    lines = [[
        "BUSI, out of fold", own["images"], f"**{share}** (95 % interval 0–{high})", own["refused_by_distance"],
        _percent((own["refused"] + own["flagged"]) / own["images"]),
        f"{own['auc']:.3f}, {own['auc_of_answered']:.3f}",
    ]]  # fmt: skip
    for name, row in body["others"].items():
        auc = f"{row['auc']:.3f}, {row['auc_of_answered']:.3f}" if "auc" in row else "–"
        shares = (row["refused"], row["refused_by_distance"], row["refused"] + row["flagged"])
        lines.append([titles.get(name, name), row["images"], *map(_percent, shares), auc])
    return markdown_table(head, lines)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _changed(count: dict[str, Any]) -> str:
    """``0 of 94 [0.0, 5.1 %]``."""
    low, high = count["interval"]
    return f"{count['events']} of {count['images']} [{100 * low:.1f}, {100 * high:.1f} %]"


def _table(name: str) -> str:
    table, file = TABLES[name]
    return table(json.loads((RESULTS / file).read_text(encoding="utf-8")))


TABLES: dict[str, tuple[Callable[[dict[str, Any]], str], str]] = {
    "front": (front, "benchmark.json"),
    "benchmark": (benchmark, "benchmark.json"),
    "decisions": (decisions, "decisions.json"),
    "candidates": (candidates, "candidates.json"),
    "gate": (gate, "gate.json"),
}

if __name__ == "__main__":
    sys.exit(main())
