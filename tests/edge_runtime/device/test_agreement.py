"""Decisions on unlabelled frames: against the bundle's float32 file, and against the answers of the workstation."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sonoedge.edge_runtime.bundle.contract import Bundle
from sonoedge.edge_runtime.bundle.manifest import load_bundle, write_manifest
from sonoedge.edge_runtime.device.agreement import ANSWERS, find_frames, groups_of, measure_agreement, read_answers
from sonoedge.edge_runtime.errors import BundleError, DataError, UsageError
from sonoedge.edge_runtime.files import sha256_file
from sonoedge.edge_runtime.model.classifier import Classifier, preprocess_file
from tests.helpers.commands import Result


def frames(folder: Path, count: int = 6) -> Path:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(count):
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def copied(float_bundle: Path, tmp_path: Path) -> Bundle:
    """A float file that passes for a quantized one, with a threshold at the median of its own logits."""
    folder = tmp_path / "bundle"
    shutil.copytree(float_bundle, folder)
    bundle = load_bundle(folder)
    artifacts = tuple(replace(a, precision="w8a8") if a.runtime == "openvino" else a for a in bundle.artifacts)
    write_manifest(replace(bundle, artifacts=artifacts))
    return load_bundle(folder)


def test_identical_bytes_count_once_and_patients_are_groups(tmp_path: Path) -> None:
    folder = frames(tmp_path / "frames", 3)
    shutil.copyfile(folder / "0.png", folder / "copy.png")
    assert len(set(groups_of(find_frames(folder)))) == 3
    (folder / "images.csv").write_text("image,patient\n0.png,A\n1.png,A\n2.png,B\n")
    found = find_frames(folder)
    assert groups_of(found) == ["patient A", "patient A", "patient B"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="No images"):
        find_frames(tmp_path / "empty")
    with pytest.raises(DataError, match="No such folder"):
        find_frames(tmp_path / "nowhere")


def test_against_the_float_file_of_the_same_runtime(copied: Bundle, tmp_path: Path) -> None:
    """The tflite file is float32 and has none to compare with; a second name for it flips nothing."""
    twin = replace(copied.artifact("tflite-fp32"), name="twin", precision="w8a8")
    bundle = replace(copied, artifacts=(*copied.artifacts, twin))
    found = measure_agreement(bundle, twin, find_frames(frames(tmp_path / "frames")))
    assert (found.reference, found.count.events, found.count.groups, found.left_out) == ("tflite-fp32", 0, 6, 0)
    assert found.count.missing(0.01) == 362
    # Another threshold turns the lower half of the decisions round, which is seen.
    classifier = Classifier(bundle, "tflite-fp32")
    logits = [
        classifier.logit(preprocess_file(f.path, classifier.input_size)) for f in find_frames(tmp_path / "frames")
    ]
    median = float(1 / (1 + np.exp(-np.median(logits))))
    exact = replace(bundle.artifact("tflite-fp32"), threshold=median)
    moved = replace(bundle, artifacts=(exact, replace(twin, threshold=1e-9)))
    again = measure_agreement(moved, moved.artifact("twin"), find_frames(tmp_path / "frames"))
    assert again.count.events == 3


def test_against_the_stored_answers(copied: Bundle, tmp_path: Path, sonoedge: Callable[..., Result]) -> None:
    folder = frames(tmp_path / "frames")
    artifact = copied.artifact("openvino-fp32")
    with pytest.raises(UsageError, match="no float32 file for openvino"):
        measure_agreement(copied, artifact, find_frames(folder))
    classifier = Classifier(copied, artifact.name)
    lines = []
    for i, path in enumerate(sorted(folder.glob("*.png"))[:5]):
        logit = classifier.logit(preprocess_file(path, classifier.input_size))
        positive = 1 / (1 + np.exp(-logit)) >= artifact.threshold
        body = {"sha256": sha256_file(path), "group": i // 2, "runtime": "openvino", "logit": logit}
        lines.append(json.dumps({**body, "positive": bool(positive) ^ (i == 4)}))
    (copied.path / ANSWERS).write_text("".join(line + "\n" for line in lines))
    write_manifest(copied)
    found = measure_agreement(copied, artifact, find_frames(folder))
    assert (found.reference, found.count.events, found.count.images) == (ANSWERS, 1, 5)
    assert (found.count.groups, found.left_out) == (3, 1)
    arguments = ["verify", copied.path, "--artifact", "openvino-fp32", "--agreement-data", folder, "--in-process"]
    result = sonoedge(*arguments)
    assert result.code == 0
    assert "1/5 (3 groups)" in result.out
    assert "INCONCLUSIVE" in result.out
    assert "more groups for PASS" in result.out
    assert "1 frames without an answer left out" in result.out
    (row,) = json.loads(sonoedge(*arguments, "--json").out)["agreement"]
    assert (row["verdict"], row["flipped"], row["left_out"]) == ("INCONCLUSIVE", 1, 1)
    # All answers turned: the whole interval is outside the budget.
    wrong = [json.dumps({**(body := json.loads(line)), "positive": not body["positive"]}) for line in lines[:4]]
    (copied.path / ANSWERS).write_text("".join(line + "\n" for line in wrong))
    write_manifest(copied)
    result = sonoedge(*arguments)
    assert result.code == 5
    assert "FAIL" in result.out
    assert "decides too often unlike float32" in result.err
    with pytest.raises(DataError, match="None of the 1 frames"):
        measure_agreement(copied, artifact, [replace(find_frames(folder)[0], sha256="0" * 64)])
    (copied.path / ANSWERS).write_text("{}\n")
    with pytest.raises(BundleError, match="line 1"):
        read_answers(copied)
