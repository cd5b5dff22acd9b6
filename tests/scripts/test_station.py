"""The load on a station: what is counted, on a real one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.measure.station import growth, main


@pytest.mark.parametrize(
    ("memory", "expected"),
    [
        ([100.0], 0.0),
        ([50.0, 100.0, 100.0, 100.0, 100.0], 0.0),
        ([50.0, 100.0, 150.0, 175.0, 200.0], 1.0),
        ([50.0] * 10 + [100.0] * 39 + [300.0], 0.0),
    ],
)
def test_growth_is_of_the_settled_stream(memory: list[float], expected: float) -> None:
    found = growth(memory)
    assert found["growth"] == pytest.approx(expected)
    assert found["peak_mb"] == max(memory)


def test_every_frame_is_answered_or_counted(
    float_bundle: Path, phantoms: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("websockets")
    code = main(
        ["--bundle", str(float_bundle), "--images", str(phantoms / "benign"), "--uploads", "5", "--seconds", "3"]
    )
    body = json.loads(capsys.readouterr().out)
    assert body["uploads"]["answered"] == 5
    assert body["live"]["lost"] == 0
    assert body["live"]["frames"] >= 2
    assert body["live"]["between_answers"]["p50_ms"] > 0
    assert set(body["live"]["overhead"]) == {"p50", "p90"}
    assert body["live"]["resident_mb"][0] > 10
    assert code == int(body["live"]["growth"] >= 0.02)
