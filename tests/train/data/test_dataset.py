"""Class folders: labels, groups, conflicts and refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sonoedge.edge_runtime.errors import DataError
from sonoedge.train.data.dataset import load_dataset
from tests.helpers.data_folders import write_folders, write_image


def test_class_folders(two_classes: Path) -> None:
    write_image(two_classes / "benign" / "site" / "deep.png", 50)
    data = load_dataset(str(two_classes))
    assert data.labels == ("benign", "malignant")
    assert data.y.tolist() == [0, 0, 0, 0, 1, 1]
    assert data.y.dtype == np.int64
    assert data.samples[3].relative_path == "benign/site/deep.png"
    assert data.samples[3].path.is_file()
    assert len(set(data.groups)) == len(data) == 6
    assert data.notes == ()
    assert data.select(np.array([5, 0])).y.tolist() == [1, 0]


def test_digest_depends_on_contents_and_labels_only(two_classes: Path, tmp_path: Path) -> None:
    before = load_dataset(two_classes).digest
    (two_classes / "benign" / "benign_0.png").rename(two_classes / "benign" / "renamed.png")
    assert load_dataset(two_classes).digest == before
    (two_classes / "benign" / "renamed.png").rename(two_classes / "malignant" / "renamed.png")
    assert load_dataset(two_classes).digest != before


def test_normal_is_left_out_unless_asked_for(two_classes: Path) -> None:
    write_folders(two_classes, {"normal": 2}, first_seed=500)
    data = load_dataset(two_classes)
    assert data.labels == ("benign", "malignant")
    assert data.notes == ("2 images of class normal left out",)
    three = load_dataset(two_classes, classes=["normal", "benign", "malignant"])
    assert three.labels == ("normal", "benign", "malignant")


def test_other_class_names_are_sorted_with_malignant_last(tmp_path: Path) -> None:
    write_folders(tmp_path, {"malignant": 1, "normal": 1, "cyst": 1})
    assert load_dataset(tmp_path).labels == ("cyst", "normal", "malignant")


def test_class_folders_are_compared_without_case(tmp_path: Path) -> None:
    write_folders(tmp_path, {"Benign": 1, "MALIGNANT": 1})
    assert load_dataset(tmp_path).labels == ("benign", "malignant")


def test_names_and_near_duplicates_are_merged(tmp_path: Path) -> None:
    write_folders(tmp_path, {"benign": 3, "malignant": 1})
    original = Image.open(tmp_path / "benign" / "benign_1.png")
    original.resize((90, 80)).save(tmp_path / "benign" / "other-name.png")
    write_image(tmp_path / "benign" / "other-name-rotated2.png", 70)
    groups = {sample.relative_path: sample.group for sample in load_dataset(tmp_path).samples}
    family = ("benign_1.png", "other-name.png", "other-name-rotated2.png")
    assert len({groups[f"benign/{name}"] for name in family}) == 1
    assert len(set(groups.values())) == 4


def test_equal_names_in_two_folders_are_no_family(tmp_path: Path) -> None:
    for index, folder in enumerate(("benign/a", "benign/b", "malignant/a")):
        write_image(tmp_path / folder / "1.png", index)
    write_image(tmp_path / "benign" / "a" / "1-flipped.png", 9)
    assert len(set(load_dataset(tmp_path).groups)) == 3


def test_group_by_none_keeps_only_identical_files_together(two_classes: Path) -> None:
    image = two_classes / "benign" / "benign_0.png"
    (two_classes / "benign" / "benign_0-rotated1.png").write_bytes(image.read_bytes())
    write_image(two_classes / "benign" / "benign_1-rotated1.png", 80)
    assert len(set(load_dataset(two_classes).groups)) == 5
    data = load_dataset(two_classes, group_by="none")
    assert len(data) == 7
    assert len(set(data.groups)) == 6


@pytest.mark.parametrize("group_by", ["auto", "none"])
def test_conflicting_labels_are_dropped_with_a_count(two_classes: Path, group_by: str) -> None:
    same = (two_classes / "benign" / "benign_0.png").read_bytes()
    (two_classes / "malignant" / "again.png").write_bytes(same)
    data = load_dataset(two_classes, group_by=group_by)  # type: ignore[arg-type]
    assert len(data) == 4
    assert data.notes == ("2 images in 1 groups with conflicting labels left out",)


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "RGB", "1"])
def test_any_pixel_mode_is_decoded(two_classes: Path, mode: str) -> None:
    write_image(two_classes / "benign" / "other.tif", 60, mode)
    assert len(load_dataset(two_classes, progress=True)) == 6


def test_unreadable_images_are_listed_or_left_out(two_classes: Path) -> None:
    for index in range(7):
        (two_classes / "benign" / f"bad_{index}.png").write_bytes(b"no image" * index)
    with pytest.raises(DataError, match=r"7 of 12 images.*bad_4\.png.*and 2 more.*--skip-unreadable") as caught:
        load_dataset(two_classes)
    assert "bad_5" not in str(caught.value)
    data = load_dataset(two_classes, skip_unreadable=True)
    assert len(data) == 5
    assert "7 unreadable images left out" in data.notes[0]


def test_class_of_unreadable_images_only_is_refused(two_classes: Path) -> None:
    for path in (two_classes / "malignant").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match="no readable image of malignant"):
        load_dataset(two_classes, skip_unreadable=True)


def test_a_class_that_vanishes_with_its_conflicts_is_refused(tmp_path: Path) -> None:
    write_folders(tmp_path, {"benign": 2})
    write_image(tmp_path / "malignant" / "m.png", 0)
    with pytest.raises(DataError, match="no usable image of malignant"):
        load_dataset(tmp_path)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({}, "At least two class folders"),
        ({"benign": 2}, "Received: benign"),
        ({"masks": 2, "benign": 1}, "At least"),
    ],
)
def test_too_few_classes(tmp_path: Path, counts: dict[str, int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_dataset(write_folders(tmp_path, counts))


def test_missing_root_and_file_root(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        load_dataset(tmp_path / "nowhere")
    with pytest.raises(DataError, match="is a file, not a folder"):
        load_dataset(write_image(tmp_path / "a.png", 0))


def test_empty_class_folder_and_bad_class_names(two_classes: Path) -> None:
    with pytest.raises(DataError, match=r"Unknown class names: tumour\. Received: benign, malignant"):
        load_dataset(two_classes, classes=["benign", "tumour"])
    with pytest.raises(DataError, match="malignant must be last"):
        load_dataset(two_classes, classes=["malignant", "benign"])
    with pytest.raises(DataError, match="Classes must differ"):
        load_dataset(two_classes, classes=["benign", "benign"])
    with pytest.raises(DataError, match="At least two"):
        load_dataset(two_classes, classes=["benign"])
    for path in (two_classes / "malignant").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="no image of malignant"):
        load_dataset(two_classes)


def test_hidden_files_and_files_outside_the_classes(two_classes: Path) -> None:
    (two_classes / "benign" / "._benign_0.png").write_bytes(b"resource fork")
    write_image(two_classes / ".cache" / "x.png", 40)
    write_image(two_classes / "overview.png", 41)
    data = load_dataset(two_classes)
    assert len(data) == 5
    assert data.notes == ("1 images outside the class folders are not used",)


def test_dicom_files_without_a_suffix_are_found(two_classes: Path) -> None:
    """As on a disc from a hospital's archive; the table of contents of the disc is no image."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, MediaStorageDirectoryStorage, SecondaryCaptureImageStorage

    def write(name: str, kind: str) -> None:
        meta = FileMetaDataset()
        meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, kind
        meta.MediaStorageSOPInstanceUID = "1.2.3.4"
        data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        data.Rows, data.Columns, data.PhotometricInterpretation = 40, 40, "MONOCHROME2"
        data.SamplesPerPixel, data.BitsAllocated, data.BitsStored, data.HighBit = 1, 8, 8, 7
        data.PixelRepresentation = 0
        data.PixelData = np.random.default_rng(9).integers(0, 256, (40, 40), np.uint8).tobytes()
        data.save_as(two_classes / "benign" / name, enforce_file_format=True)

    write("IM_0001", SecondaryCaptureImageStorage)
    write("DICOMDIR", MediaStorageDirectoryStorage)
    (two_classes / "benign" / "README").write_text("not an image")
    paths = [sample.relative_path for sample in load_dataset(two_classes).samples]
    assert "benign/IM_0001" in paths
    assert len(paths) == 6


def test_linked_class_folders_are_followed_and_loops_end(two_classes: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    for name in ("benign", "malignant"):
        (linked / name).symlink_to(two_classes / name, target_is_directory=True)
    (two_classes / "benign" / "loop").symlink_to(two_classes / "benign", target_is_directory=True)
    assert len(load_dataset(linked)) == len(load_dataset(two_classes)) == 5
