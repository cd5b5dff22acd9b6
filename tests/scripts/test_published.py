"""The script that measures what is published: what it takes from report.json, bundle.json and ablation.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scripts.measure import published
from scripts.results.tables import benchmark
from sonoedge.benchmarks.records.runfile import write_run
from sonoedge.edge_runtime.cli import main
from tests.helpers.measured_runs import FULL, scored_run


def test_rows_of_a_report(tmp_path: Path) -> None:
    run = tmp_path / "run.json"
    write_run(scored_run(), run)
    assert main(["report", str(run), "--out", str(tmp_path / "report")]) == 6, "a file failed"
    body = published.benchmark_of(published.read(tmp_path / "report" / "report.json"))
    assert body["data"] == {"name": "set", "kind": "test", "images": 40}
    rows = {row["name"]: row for row in body["rows"]}
    assert set(rows) == {FULL, "same", "noisy"}, "a file that failed has no figures"
    assert rows[FULL]["changed"] is None and rows["same"]["changed"] == 0 and rows["noisy"]["changed"] > 0
    assert rows["same"]["auc"] == rows[FULL]["auc"] and rows["same"]["p50_ms"] == pytest.approx(10.2, abs=0.1)
    assert benchmark(body).count("\n") == 1 + len(rows)


def candidate(name: str) -> dict[str, Any]:
    return dict.fromkeys(published._KEPT_OF_CANDIDATES, 0) | {"candidate": name, "verdicts": {}}


def test_candidates_of_a_bundle() -> None:
    rows = [candidate("w8a8"), {"candidate": "w8a16", "error": "cannot run"}, candidate("mixed")]
    artifacts = [
        {"name": name, "metrics": {"validation": {"candidate": "mixed"}, "candidates": rows}}
        for name in ("tflite-int8", "openvino-int8")
    ]
    log = "  95 images, float32 338.81 ms; budget: 1 %\n  float32 318.83 ms; budget: 1 %\n\n433 s\n"
    body = published.candidates_of({"artifacts": artifacts}, log)
    assert body["float32_p50_ms"] == {"tflite": 338.81, "openvino": 318.83}
    assert [(row["candidate"], row.get("taken")) for row in body["candidates"]["openvino-int8"]] == [
        ("w8a8", None),
        ("mixed", True),
    ]
    assert body["seconds"] == {"whole export": 433}


def test_augmentation_is_rounded_and_has_no_images() -> None:
    ablation = {"facts": "busi", "rows": [{"auc": 0.123456}], "pairs": [], "intended_use": "", "images": ["a.png"]}
    assert published.augmentation_of(ablation) == {
        "facts": "busi", "rows": [{"auc": 0.1235}], "pairs": [], "intended_use": "",
    }  # fmt: skip


def test_a_command_is_recorded_as_it_ran_and_runs_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    monkeypatch.setattr(published, "called", lambda command, given, log: ran.append(command))
    out = tmp_path / "run"
    typed = "sonoedge train --data BUSI --seed 3 --out run"
    assert published.step(out, "train", ["--data", Path("/far/BUSI"), "--seed", 3]) == typed
    out.mkdir()
    assert published.step(out, "train", ["--data", Path("/far/BUSI"), "--seed", 3]) == typed
    assert ran == ["train"]
