"""`sonoedge audit` on folders with known faults."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sonoedge.edge_runtime.errors import DataError, UsageError
from sonoedge.edge_runtime.words import INTENDED_USE
from sonoedge.train.commands.audit import add_arguments, run
from sonoedge.train.data.audit import audit_folder, render
from sonoedge.train.data.dataset import load_dataset
from sonoedge.train.data.split import leak_count, make_split


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(arguments)


def view(seed: int) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (12, 12), dtype=np.uint8)
    return Image.fromarray(coarse).resize((60, 48), Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight sources a class, each with one mirrored copy that only the content gives away; a few faults."""
    root = tmp_path / "data"
    for number, label in enumerate(("benign", "malignant")):
        (root / label).mkdir(parents=True)
        for index in range(8):
            image = view(100 * number + index)
            image.save(root / label / f"{index}.png")
            image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(root / label / f"m{index}.png")
    view(3).save(root / "malignant" / "wrong.png")
    view(100).save(root / "malignant" / "0-rotated1.png")
    view(55).save(root / "malignant" / "5-sharpened.png")
    return root


def test_audit_lists_every_kind_of_fault(folder: Path) -> None:
    audit = audit_folder(folder)
    assert audit.images == 35
    assert audit.classes == {"benign": 16, "malignant": 19}
    assert audit.identical == (
        ("benign/3.png", "malignant/wrong.png"),
        ("malignant/0-rotated1.png", "malignant/0.png"),
    )
    assert ("benign/1.png", "benign/m1.png") in audit.near_duplicates
    assert len(audit.near_duplicates) == 16
    assert audit.families == (
        ("malignant/0-rotated1.png", "malignant/0.png"),
        ("malignant/5-sharpened.png", "malignant/5.png"),
    )
    assert audit.conflicting == (("benign/3.png", "benign/m3.png", "malignant/wrong.png"),)
    assert audit.leak is not None
    assert 0.3 < audit.leak.random_split <= 1
    assert audit.notes == ("2 images in 1 groups with conflicting labels left out",)


def test_grouped_split_of_named_copies_has_no_leak(tmp_path: Path) -> None:
    for number, label in enumerate(("benign", "malignant")):
        (tmp_path / label).mkdir()
        for index in range(10):
            for copy, name in enumerate(("", "-rotated1", "-rotated2-sharpened")):
                seed = 1000 * number + 10 * index + copy
                view(seed).save(tmp_path / label / f"{label} ({index}){name}.png")
    audit = audit_folder(tmp_path)
    assert audit.leak is not None
    assert audit.leak.grouped_split == 0
    assert audit.leak.random_split > 0.5
    assert len(audit.families) == 20


def test_text_and_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(parse(str(folder))) == 0
    text = capsys.readouterr().out
    assert "conflicting labels" in text
    assert "random split" in text
    assert "note: 2 images in 1 groups" in text
    assert run(parse(str(folder), "--json")) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["conflicting"] == [["benign/3.png", "benign/m3.png", "malignant/wrong.png"]]
    assert set(document["leak"]) == {"random_split", "grouped_split"}


def test_a_folder_too_small_to_split_is_still_audited(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, label in enumerate(("cyst", "tumour")):
        (tmp_path / label).mkdir()
        view(number).save(tmp_path / label / "a.png")
    (tmp_path / "cyst" / "bad.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="--skip-unreadable"):
        run(parse(str(tmp_path)))
    assert run(parse(str(tmp_path), "--skip-unreadable", "--classes", "tumour,cyst")) == 0
    text = capsys.readouterr().out
    assert "no split can be made" in text
    assert "1 unreadable images left out" in text


@pytest.mark.long
@pytest.mark.slow  # data/test_copies.py finds the copies, data/test_layouts.py reads the file
def test_copies_by_content_become_a_groups_file_that_training_splits_by(
    tmp_path: Path, phantoms: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    for path in sorted(phantoms.glob("*/*_a.png")):
        target = data / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as picture:
            picture.save(target)
            # Neither the name nor a quarter turn gives this copy away.
            picture.rotate(17, Image.Resampling.BILINEAR).save(target.with_name(f"x{path.name}"))
    out = tmp_path / "audit"
    assert run(parse(str(data), "--out", str(out))) == 0
    assert "turned, mirrored, sharpened      48 images in 24 groups" in capsys.readouterr().out
    assert {path.name for path in out.iterdir()} == {"audit.json", "audit.md", "groups.csv", "worst-pairs.png"}
    document = json.loads((out / "audit.json").read_text())
    assert len(document["worst"]) == 24
    assert document["worst"][0]["same_label"]
    assert INTENDED_USE in (out / "audit.md").read_text()
    assert len(set(load_dataset(data).groups)) == 48
    grouped = load_dataset(data, groups=out / "groups.csv")
    assert len(set(grouped.groups)) == 24
    assert leak_count(make_split(grouped)) == 0
    # Run again, it replaces its own folder; it never replaces another.
    assert run(parse(str(data), "--out", str(out), "--json")) == 0
    with pytest.raises(UsageError, match="will not be replaced"):
        run(parse(str(data), "--out", str(data)))


def test_same_content_under_two_labels_heads_the_sheet(tmp_path: Path, phantoms: Path) -> None:
    shutil.copytree(phantoms, tmp_path / "data")
    (tmp_path / "data" / "images.csv").unlink()
    with Image.open(tmp_path / "data" / "benign" / "benign_0002_a.png") as picture:
        picture.rotate(-9).save(tmp_path / "data" / "malignant" / "new.png")
    audit = audit_folder(tmp_path / "data")
    assert (audit.worst[0].first, audit.worst[0].second) == ("benign/benign_0002_a.png", "malignant/new.png")
    assert not audit.worst[0].same_label
    assert "under two labels" in render(audit)
    assert any("malignant/new.png" in group for group in audit.conflicting)


def test_the_folders_own_split_is_judged(tmp_path: Path) -> None:
    for number, label in enumerate(("benign", "malignant")):
        for subset, first in (("train", 0), ("val", 6)):
            (tmp_path / subset / label).mkdir(parents=True)
            for index in range(first, first + 6):
                view(100 * number + index).save(tmp_path / subset / label / f"{index}.png")
        view(100 * number).rotate(12).save(tmp_path / "val" / label / "again.png")
    audit = audit_folder(tmp_path)
    assert audit.own_split_leak == (2, 14)
    assert "2 of 14 validation and test images have a copy in train" in render(audit)


def test_a_groups_file_of_other_images_is_refused(tmp_path: Path, phantoms: Path) -> None:
    groups = tmp_path / "groups.csv"
    images = [sample.relative_path for sample in load_dataset(phantoms).samples]
    for listed, problem in (
        (images[:-1], "1 images are not listed"),
        ([*images, "benign/z.png"], "1 listed images"),
    ):
        groups.write_text("image,group\n" + "".join(f"{image},g\n" for image in listed))
        with pytest.raises(DataError, match=problem):
            load_dataset(phantoms, groups=groups)
    groups.write_text("image,family\n")
    with pytest.raises(DataError, match="lacks the columns: group"):
        load_dataset(phantoms, groups=groups)
