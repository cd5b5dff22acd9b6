"""Refused images on the command line: no number, no file, one exit code, and the others answered all the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sonoedge.edge_runtime.bundle.contract import GATE_FILE
from sonoedge.edge_runtime.bundle.manifest import load_bundle, write_manifest
from sonoedge.edge_runtime.errors import REFUSED_EXIT_CODE, DataError, SonoEdgeError
from tests.helpers.pictures import ARTIFACT, board, grey
from tests.helpers.places import VECTORS

BUNDLE = ["--bundle", VECTORS / "bundle", "--artifact", ARTIFACT]
NUMBERS = ("label", "probability", "logit")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = tmp_path / "images"
    images.mkdir()
    for name, picture in {
        "a": grey(1),
        "b": board(),
        "c": grey(2),
        "d": np.full((60, 60, 3), 250, np.uint8),
    }.items():
        Image.fromarray(picture).save(images / f"{name}.png")
    return images


def by_name(text: str) -> dict[str, dict[str, Any]]:
    bodies = [json.loads(line) for line in text.splitlines()]
    return {Path(body["image"]).stem: body for body in bodies}


def test_the_exit_code_is_nobody_elses() -> None:
    classes, found = [SonoEdgeError], set()
    while classes:
        found.add((kind := classes.pop()).exit_code)
        classes += kind.__subclasses__()
    assert REFUSED_EXIT_CODE not in found | {0, 10, 130, 141}


def test_predict_answers_all_and_keeps_the_numbers_of_refused_images(
    sonoedge: Any, folder: Path, tmp_path: Path
) -> None:
    heat = tmp_path / "heat"
    result = sonoedge("predict", *BUNDLE, "--json", "--explain", heat, folder)
    assert result.code == REFUSED_EXIT_CODE == 11
    answers = by_name(result.out)
    assert {name: body["verdict"] for name, body in answers.items()} == {
        "a": "suspicious", "b": "refused", "c": "not_suspicious", "d": "refused",
    }  # fmt: skip
    for body in answers.values():
        refused = body["verdict"] == "refused"
        assert [body[key] is None for key in NUMBERS] == [refused] * 3
        assert bool(body["reasons"]) == refused
        assert set(body["gate"]) == {"distance", "warning", "threshold"}
        assert {"image", "threshold", "artifact", "latency_ms"} <= set(body)
    assert {path.name.partition(".")[0] for path in heat.iterdir()} == {"a", "c"}
    assert "2 of 4 images were refused" in result.err


def test_ungated_gives_numbers_and_maps_of_refused_images(sonoedge: Any, folder: Path, tmp_path: Path) -> None:
    result = sonoedge("predict", *BUNDLE, "--json", "--ungated", "--explain", tmp_path / "heat", folder)
    assert result.code == 0
    answers = by_name(result.out)
    assert [answers[name]["verdict"] for name in "abcd"] == ["suspicious", "refused", "not_suspicious", "refused"]
    assert all(isinstance(body["logit"], float) for body in answers.values())
    assert {path.name.partition(".")[0] for path in (tmp_path / "heat").iterdir()} == set("abcd")


def test_the_line_for_people_says_refused_and_why(sonoedge: Any, folder: Path) -> None:
    result = sonoedge("predict", *BUNDLE, folder)
    line = next(line for line in result.out.splitlines() if "b.png" in line)
    assert line.startswith("refused ")
    assert "not like those that the model was trained on" in line
    assert "p=" not in line
    ungated = sonoedge("predict", *BUNDLE, "--ungated", folder / "b.png")
    assert "p=" in ungated.out and "Refused" in ungated.out


def test_an_unreadable_image_wins_over_a_refused_one(sonoedge: Any, folder: Path) -> None:
    (folder / "e.png").write_bytes(b"no picture")
    for command in ("predict", "explain"):
        options = ["--out", folder.parent / "out"] if command == "explain" else []
        result = sonoedge(command, *BUNDLE, *options, "--json", folder)
        assert result.code == DataError.exit_code
        assert len(result.out.splitlines()) == 4


def test_counters_count_verdicts_and_reasons(sonoedge: Any, folder: Path, tmp_path: Path) -> None:
    assert sonoedge("predict", *BUNDLE, "--counters", tmp_path / "c.json", folder).code == REFUSED_EXIT_CODE
    body = json.loads((tmp_path / "c.json").read_text())
    assert {item["verdict"]: item["count"] for item in body["verdicts"]} == {
        "suspicious": 1, "not_suspicious": 1, "refused": 2,
    }  # fmt: skip
    assert {item["reason"]: item["count"] for item in body["reasons"]} == {"outside_training": 2, "not_b_mode": 2}
    assert sum(body["probability"][ARTIFACT]["counts"]) == 2
    assert (body["drift"][ARTIFACT]["images"], body["drift"][ARTIFACT]["refused"]) == (4, 2)
    sonoedge("predict", *BUNDLE, "--counters", tmp_path / "c.prom", folder)
    assert (
        f'sonoedge_verdicts_total{{artifact="{ARTIFACT}",verdict="refused"}} 2' in (tmp_path / "c.prom").read_text()
    )


def test_explain_writes_nothing_of_refused_images(sonoedge: Any, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = sonoedge("explain", *BUNDLE, "--json", "--out", out, folder)
    assert result.code == REFUSED_EXIT_CODE
    answers = by_name(result.out)
    assert [answers["b"][key] for key in NUMBERS] == [None] * 3
    assert (answers["b"]["verdict"], answers["b"].get("peak_xy")) == ("refused", None)
    assert answers["a"]["verdict"] == "suspicious" and answers["a"]["peak_xy"]
    assert {path.name.partition(".")[0] for path in out.iterdir()} == {"a", "c"}
    named = sonoedge("explain", *BUNDLE, "--class", "malignant", "--out", tmp_path / "named", folder / "b.png")
    assert named.code == REFUSED_EXIT_CODE and not (tmp_path / "named").exists()
    assert "refused" in named.out
    ungated = sonoedge("explain", *BUNDLE, "--ungated", "--out", out, folder)
    assert ungated.code == 0
    assert {path.name.partition(".")[0] for path in out.iterdir()} == set("abcd")


@pytest.mark.parametrize("command", [["predict", "--explain"], ["explain", "--out"]])
def test_no_heat_map_stays_of_an_image_that_is_refused_now(
    command: list[str], sonoedge: Any, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert sonoedge(*command, out, *BUNDLE, "--ungated", folder).code == 0
    (out / "note.txt").write_text("the user's own")
    assert sonoedge(*command, out, *BUNDLE, folder).code == REFUSED_EXIT_CODE
    assert {path.name.partition(".")[0] for path in out.iterdir()} == {"a", "c", "note"}


def test_stream_goes_on_after_refused_frames(sonoedge: Any, folder: Path, tmp_path: Path) -> None:
    command = ["stream", *BUNDLE, "--source", folder, "--annotated", tmp_path / "drawn"]
    result = sonoedge(*command, "--json")
    assert result.code == REFUSED_EXIT_CODE
    lines = [json.loads(line) for line in result.out.splitlines()]
    assert [line["verdict"] for line in lines] == ["suspicious", "refused", "suspicious", "refused"]
    assert [line["smoothed"] is None for line in lines] == [False, True, False, True]
    assert len(list((tmp_path / "drawn").iterdir())) == 4
    assert "refused 2" in result.err and "2 of 4 images were refused" in result.err
    plain = sonoedge(*command)
    assert plain.out.count("refused") == 2
    assert sonoedge(*command, "--ungated").code == 0


def test_a_stream_of_refused_frames_alone_ends_in_words(sonoedge: Any, folder: Path) -> None:
    result = sonoedge("stream", *BUNDLE, "--source", folder / "b.png")
    assert result.code == REFUSED_EXIT_CODE
    assert "refused 1" in result.err and "highest" not in result.err


@pytest.mark.parametrize("command", ["predict", "explain"])
def test_a_cascade_half_without_a_gate_is_an_error_before_the_first_image(
    command: str, sonoedge: Any, folder: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "cascade"
    shutil.copytree(VECTORS / "cascade", copy)
    (copy / "first" / GATE_FILE).unlink()
    for path in (copy / "first", copy):
        bundle = load_bundle(VECTORS / "cascade" / path.relative_to(copy))
        write_manifest(type(bundle)(**{**vars(bundle), "path": path}))
    options = ["--out", tmp_path / "out"] if command == "explain" else []
    result = sonoedge(command, "--bundle", copy, *options, folder)
    assert (result.code, result.out) == (4, "")
    assert "the cheap model has no gate" in result.err
    assert sonoedge(command, "--bundle", copy, *options, "--ungated", folder).code == 0


def test_verify_replays_outside_the_gate(sonoedge: Any) -> None:
    assert sonoedge("verify", VECTORS / "bundle", "--in-process").code == 0
