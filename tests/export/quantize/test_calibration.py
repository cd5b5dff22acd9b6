"""Calibration images: drawn fairly, audited with numbers, and never from validation or test."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sonoedge.edge_runtime.errors import DataError, ImageError, UsageError
from sonoedge.export.quantize.calibration import MAX_SAMPLES, calibration_from_folder, calibration_from_run
from sonoedge.export.quantize.calibration_audit import HeldOut, audit_activations, audit_images
from sonoedge.export.quantize.ranges import ActivationStatistics
from sonoedge.train.data.dataset import Dataset, load_dataset
from sonoedge.train.data.split import apply_split, make_split
from tests.helpers.commands import Result

LABELS = ("benign", "malignant")


@pytest.fixture(scope="module")
def data(phantoms: Path) -> dict[str, Dataset]:
    dataset = load_dataset(phantoms)
    return apply_split(dataset, make_split(dataset))


@pytest.mark.long
def test_images_come_from_training_balanced_and_repeatable(data: dict[str, Dataset]) -> None:
    found = calibration_from_run(data, count=8, seed=0)
    training = {sample.sha256: sample.label for sample in data["train"].samples}
    assert len(found.paths) == 8
    assert sum(training[digest] for digest in found.digests) == 4
    assert found.audit.classes == {"benign": 4, "malignant": 4}
    again = calibration_from_run(data, count=8, seed=0)
    assert again.digest == found.digest
    assert calibration_from_run(data, count=8, seed=1).digest != found.digest
    everything = calibration_from_run(data, count=MAX_SAMPLES, seed=0)
    assert len(everything.paths) == len(data["train"])
    assert any("only 8 calibration images" in warning for warning in found.warnings)


def test_provenance_is_plain_json_without_paths(data: dict[str, Dataset]) -> None:
    found = calibration_from_run(data, count=4, seed=0)
    body = json.dumps(found.provenance(0))
    assert str(found.paths[0].parent) not in body
    assert json.loads(body)["audit"]["near_held_out"] is not None


@pytest.mark.parametrize("count", [0, -1, MAX_SAMPLES + 1])
def test_counts_out_of_range(count: int, data: dict[str, Dataset]) -> None:
    with pytest.raises(UsageError, match="--num-calibration-samples"):
        calibration_from_run(data, count=count, seed=0)


def folder_of(paths: list[Path], folder: Path) -> Path:
    folder.mkdir(parents=True)
    for path in paths:
        shutil.copyfile(path, folder / path.name)
    return folder


def test_a_test_image_in_the_folder_is_an_error(data: dict[str, Dataset], tmp_path: Path) -> None:
    paths = [data["train"].samples[0].path, data["test"].samples[0].path]
    with pytest.raises(DataError, match="1 of 2 calibration images are validation or test images"):
        calibration_from_folder(folder_of(paths, tmp_path / "own"), data, LABELS, count=10, seed=0)


def test_a_processed_copy_of_a_test_image_is_a_warning_with_a_number(
    data: dict[str, Dataset], tmp_path: Path
) -> None:
    folder = folder_of([data["train"].samples[0].path], tmp_path / "own")
    with Image.open(data["test"].samples[0].path) as image:
        image.resize((image.width // 2, image.height // 2)).save(folder / "copy.png")
    found = calibration_from_folder(folder, data, LABELS, count=10, seed=0)
    assert found.audit.near_held_out == 1
    assert any("1 of 2 calibration images show the same view" in w and "copy.png" in w for w in found.warnings)


def test_copies_within_the_folder_are_counted(data: dict[str, Dataset], tmp_path: Path) -> None:
    folder = folder_of([data["train"].samples[0].path], tmp_path / "own")
    shutil.copyfile(data["train"].samples[0].path, folder / "again.png")
    found = calibration_from_folder(folder, data, LABELS, count=10, seed=0)
    assert found.audit.identical == 1
    assert any("1 of 2 calibration images are copies" in warning for warning in found.warnings)


def test_one_class_only_is_said(phantoms: Path) -> None:
    found = calibration_from_folder(phantoms / "benign", None, LABELS, count=10, seed=0)
    assert any("no calibration image of class malignant (10 benign, 0 malignant)" in w for w in found.warnings)
    both = calibration_from_folder(phantoms, None, LABELS, count=20, seed=0)
    assert not any("no calibration image" in warning for warning in both.warnings)


def test_balance(phantoms: Path) -> None:
    paths = sorted((phantoms / "benign").glob("*.png"))[:8]
    audit = audit_images(paths, [p.name for p in paths], {"benign": 7, "malignant": 1}, None)
    assert any("out of balance: 7 benign, 1 malignant" in warning for warning in audit.warnings)
    held_out = HeldOut((), ("zzz",))
    assert audit_images(paths, [p.name for p in paths], {}, held_out).near_held_out == 0


@pytest.mark.parametrize("make", ["missing", "empty", "text only", "broken image"])
def test_useless_folders(make: str, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    if make != "missing":
        folder.mkdir()
    if make == "text only":
        (folder / "notes.txt").write_text("no image")
    if make == "broken image":
        (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(ImageError if make == "broken image" else DataError):
        calibration_from_folder(folder, None, LABELS, count=10, seed=0)


def test_the_commands_answer_is_one_line(
    sonoedge: Callable[..., Result], tiny_run: Path, data: dict[str, Dataset], tmp_path: Path
) -> None:
    folder = folder_of([sample.path for sample in data["val"].samples], tmp_path / "own")
    result = sonoedge(
        "export", "--model", tiny_run, "--calibration-data", folder, "--out", tmp_path / "bundle", "--quiet"
    )
    assert result.code == 3
    assert [line for line in result.err.splitlines() if line.startswith("error: ")] != []
    assert "Traceback" not in result.err
    assert not (tmp_path / "bundle").exists()


def statistics(scale: np.ndarray) -> ActivationStatistics:
    samples = np.random.default_rng(0).uniform(0, 1, (40, 3, 64)).astype(np.float32) * scale[:, None, None]
    return ActivationStatistics(("image", "a;", "b;"), samples.min(axis=2), samples.max(axis=2), samples)


def test_stable_activations_give_no_warning() -> None:
    found = audit_activations(statistics(np.ones(40, np.float32)), "extremes")
    assert found["warnings"] == []
    assert found["range_spread_median"] < 0.05
    assert found["clipped_share"] == 0


def test_wild_images_make_ranges_unstable() -> None:
    scale = (1.5 ** np.arange(40)).astype(np.float32)
    found = audit_activations(statistics(scale), "extremes")
    assert found["worst_spread"][1] > 0.3
    assert any("between three draws of 20 images" in warning for warning in found["warnings"])


def test_clipping_is_counted() -> None:
    scale = np.ones(40, np.float32)
    scale[:2] = 100
    found = audit_activations(statistics(scale), "average")
    assert found["worst_clipped"][1] > 0.01
    assert any("clip more than 1 %" in warning for warning in found["warnings"])
