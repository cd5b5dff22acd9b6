"""Layouts of published data sets, images.csv, and masks beside the images."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from sonoedge.edge_runtime.errors import DataError
from sonoedge.train.data.dataset import load_dataset
from sonoedge.train.data.layouts import safe_relative
from tests.helpers.data_folders import write_csv, write_folders, write_image, write_mask


@pytest.mark.parametrize("name", ["masks", "Masks", "MASKS"])
def test_masks_are_never_a_class_nor_searched(two_classes: Path, name: str) -> None:
    write_mask(two_classes / name / "benign" / "benign_0.png")
    write_mask(two_classes / "malignant" / name / "malignant_1.bmp")
    data = load_dataset(two_classes)
    assert data.labels == ("benign", "malignant")
    assert len(data) == 5
    masks = {sample.relative_path: sample.mask_path for sample in data.samples if sample.mask_path}
    assert masks == {
        "benign/benign_0.png": two_classes / name / "benign" / "benign_0.png",
        "malignant/malignant_1.png": two_classes / "malignant" / name / "malignant_1.bmp",
    }
    with pytest.raises(DataError, match="Unknown class names: masks"):
        load_dataset(two_classes, classes=["benign", "masks"])


def test_original_busi_masks_beside_the_images(tmp_path: Path) -> None:
    for index in (1, 2):
        write_image(tmp_path / "benign" / f"benign ({index}).png", index)
        write_image(tmp_path / "malignant" / f"malignant ({index}).png", 10 + index)
    for suffix in ("_mask_1", "_mask"):
        write_mask(tmp_path / "benign" / f"benign (1){suffix}.png")
    data = load_dataset(tmp_path)
    assert len(data) == 4
    assert data.samples[0].mask_path == tmp_path / "benign" / "benign (1)_mask.png"
    assert data.samples[1].mask_path is None


def test_published_augmented_layout(tmp_path: Path) -> None:
    for label, seed in (("benign", 0), ("malignant", 10)):
        for index in range(3):
            write_image(tmp_path / "train" / label / f"{label} ({index}).png", seed + index)
        # The turned copy of a training image lies under val/, and looks like nothing else.
        write_image(tmp_path / "val" / label / f"{label} (0)-rotated1-sharpened.png", seed + 5)
    data = load_dataset(tmp_path)
    assert data.y.tolist() == [0, 0, 0, 1, 1, 1, 0, 1]
    assert data.samples[-1].relative_path == "val/malignant/malignant (0)-rotated1-sharpened.png"
    assert data.groups[6] == data.groups[0] != data.groups[1]
    assert data.groups[7] == data.groups[3]
    assert "train, val are merged" in data.notes[0]


def test_images_csv_decides_labels_and_groups(tmp_path: Path) -> None:
    write_folders(tmp_path, {"benign": 4, "malignant": 2, "normal": 1})
    rows = [
        ("./benign/benign_0.png", "benign", "g0", "False"),
        ("benign/benign_1.png", "benign", "g0", "False"),
        ("benign/benign_2.png", "benign", "g1", "True"),
        ("malignant/malignant_0.png", "malignant", "g2", "False"),
        ("malignant/malignant_1.png", "malignant", "g3", "False"),
        ("normal/normal_0.png", "normal", "g1", "True"),
    ]
    write_csv(tmp_path / "images.csv", ("image", "label", "group", "group_has_conflicting_labels"), rows)
    data = load_dataset(tmp_path)
    assert data.groups == ["g0", "g0", "g2", "g3"]
    assert data.notes == (
        "1 images are not listed in images.csv and not used",
        "1 images of class normal left out",
        "1 images in 1 groups with conflicting labels left out",
    )


def test_a_patient_may_have_a_benign_and_a_malignant_lesion(two_classes: Path) -> None:
    names = sorted(p.relative_to(two_classes).as_posix() for p in two_classes.rglob("*.png"))
    cases = ["1", "1", "2", "2", "3"]
    rows = [(name, name.split("/")[0], case) for name, case in zip(names, cases, strict=True)]
    write_csv(two_classes / "images.csv", ("image", "label", "case"), rows)
    data = load_dataset(two_classes)
    assert data.groups == cases
    assert data.notes == ("1 groups of images.csv hold more than one class: each stays on one side of a split",)
    (two_classes / "malignant" / "copy.png").write_bytes((two_classes / "benign" / "benign_0.png").read_bytes())
    rows.append(("malignant/copy.png", "malignant", "4"))
    write_csv(two_classes / "images.csv", ("image", "label", "case"), rows)
    data = load_dataset(two_classes)
    assert data.groups == ["2", "2", "3"]
    assert data.notes[0] == "3 images in 1 groups with conflicting labels left out"


def test_images_csv_without_groups_uses_the_content(two_classes: Path) -> None:
    Image.open(two_classes / "benign" / "benign_0.png").resize((70, 70)).save(two_classes / "benign" / "z.png")
    names = sorted(p.relative_to(two_classes).as_posix() for p in two_classes.rglob("*.png"))
    write_csv(two_classes / "images.csv", ("image", "label"), [(name, name.split("/")[0]) for name in names])
    assert len(set(load_dataset(two_classes).groups)) == 5


def test_original_bus_bra(tmp_path: Path) -> None:
    ids = ("bus_0001-l", "bus_0001-r", "bus_0002-s")
    for seed, name in enumerate(ids):
        write_image(tmp_path / "Images" / f"{name}.png", seed)
        write_mask(tmp_path / "Masks" / f"mask_{name.removeprefix('bus_')}.png")
    rows = [(ids[0], 1, "benign"), (ids[1], 1, "benign"), (ids[2], 2, "malignant")]
    write_csv(tmp_path / "bus_data.csv", ("ID", "Case", "Pathology"), rows)
    data = load_dataset(tmp_path)
    assert data.groups == ["1", "1", "2"]
    assert data.y.tolist() == [0, 0, 1]
    assert data.samples[0].mask_path == tmp_path / "Masks" / "mask_0001-l.png"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,class\nbenign/benign_0.png,benign\n", "lacks the columns: label. Received: image, class"),
        ("", "lacks the columns: image, label. Received: an empty file"),
        ("image,label\n", "lists no images"),
        ("image,label\nbenign/benign_0.png\n", "row 2"),
        ("image,label\nbenign/benign_0.png,benign,more\n", "row 2"),
        ("image,label\nbenign/benign_0.png,\n", "row 2"),
        ("image,label\n../secret.png,benign\n", "stay in the folder"),
        ("image,label\n/etc/secret.png,benign\n", "stay in the folder"),
        ("image,label\nC:\\secret.png,benign\n", "stay in the folder"),
        ("image,label\nbenign/benign_9.png,benign\n", "1 images listed in images.csv are not in"),
        ("image,label\n" + "benign/benign_0.png,benign\n" * 2, "more than once"),
        ("image,label\nMasks/benign_0.png,benign\n", "lists masks as images"),
        ('image,label\n"benign/benign_0.png,benign\n', "Cannot read"),
        ("image,label\nbenign/benign_0.png,benign\n", "At least two"),
    ],
)
def test_bad_csv(two_classes: Path, text: str, message: str) -> None:
    (two_classes / "images.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        load_dataset(two_classes)


def test_csv_in_another_encoding(two_classes: Path) -> None:
    (two_classes / "images.csv").write_bytes("image,label\nbenign/é.png,benign\n".encode("latin-1"))
    with pytest.raises(DataError, match="Cannot read"):
        load_dataset(two_classes)
    listed = "".join(f"{label}/{label}_0.png,{label}\n" for label in ("benign", "malignant"))
    (two_classes / "images.csv").write_text("image,label\n" + listed, encoding="utf-8-sig")
    assert len(load_dataset(two_classes)) == 2


@pytest.mark.parametrize("text", ["", ".", "..", "a/../../b", "/a", "C:/a", "a\\b", "a\0b"])
def test_safe_relative_refuses(text: str) -> None:
    with pytest.raises(DataError):
        safe_relative(text)
