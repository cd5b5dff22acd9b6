"""Unlabelled frames: they count in the comparison, and the run may not know them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sonoedge.edge_runtime.errors import AccuracyError, DataError
from sonoedge.edge_runtime.files import sha256_file
from sonoedge.edge_runtime.proportion import GroupedCount
from sonoedge.export.guard.agreement import AgreementFrames, agreement_frames
from sonoedge.export.guard.candidate_table import Candidate, promise
from sonoedge.export.guard.evaluator import Evaluator
from sonoedge.export.guard.int8 import Int8Policy
from tests.helpers.int8_models import LOOSE, Bench, int8, noise_images


def unlabelled(folder: Path, count: int = 30) -> AgreementFrames:
    noise_images(folder, count, 7)
    return agreement_frames(folder, {})


def test_the_published_file_is_compared_on_unlabelled_frames_too(
    broken: Bench, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frames = unlabelled(tmp_path / "frames")
    policy = Int8Policy(LOOSE, validation=broken.evaluator.dataset, agreement=frames, allow_drop=True)
    caplog.set_level("INFO", "sonoedge")
    choice = int8(broken, policy, tmp_path / "guard")
    found = choice.candidate.comparison
    assert found.frames.images == 30
    assert found.all_flips.groups == found.differing.groups + found.frames.groups
    assert any(f"{found.frames.events}/30 (" in line for line in caplog.messages)
    assert choice.candidate.to_json(LOOSE)["agreement"]["images"] == 30
    rows = [json.loads(line) for line in frames.lines().splitlines()]
    assert {row["runtime"] for row in rows} == {"tflite"}
    assert len(rows) == 30
    assert set(rows[0]) == {"sha256", "group", "runtime", "logit", "positive"}


def test_frames_can_refuse_what_validation_images_took(
    broken: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Turned(AgreementFrames):
        def add_to(self, candidate: Candidate, evaluator: Evaluator, runner: object) -> Candidate:
            frames = GroupedCount.of(np.arange(30) < 15, None)
            return replace(candidate, comparison=replace(candidate.comparison, frames=frames))

    frames = Turned(unlabelled(tmp_path / "frames").dataset)
    policy = Int8Policy(LOOSE, validation=broken.evaluator.dataset, agreement=frames)
    with pytest.raises(AccuracyError, match="not on the frames of --agreement-data: 15/30"):
        int8(broken, policy, tmp_path / "guard")
    assert not (tmp_path / "guard" / "backbone.tflite").exists()
    choice = int8(broken, replace(policy, allow_drop=True), tmp_path / "allowed")
    assert not promise(choice.candidate, LOOSE)["kept"]


def test_frames_that_the_run_knows_are_refused(tmp_path: Path) -> None:
    paths = noise_images(tmp_path / "frames", 4, 7)
    with pytest.raises(DataError, match=r"1 of the 4 images .* were used for val"):
        agreement_frames(tmp_path / "frames", {sha256_file(paths[2]): "val"})


def test_near_duplicates_are_one_group_unless_a_csv_names_patients(tmp_path: Path) -> None:
    paths = noise_images(tmp_path / "frames", 3, 7)
    Image.open(paths[0]).resize((48, 48)).save(tmp_path / "frames" / "larger.png")
    assert len(set(agreement_frames(tmp_path / "frames", {}).dataset.groups)) == 3
    (tmp_path / "frames" / "images.csv").write_text(
        "image,patient\n000.png,A\n001.png,A\n002.png,A\nlarger.png,B\n"
    )
    assert len(set(agreement_frames(tmp_path / "frames", {}).dataset.groups)) == 2
