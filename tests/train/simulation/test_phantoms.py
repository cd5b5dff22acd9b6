from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sonoedge.edge_runtime.errors import DataError, UsageError
from sonoedge.train.commands.phantoms import add_arguments, run
from sonoedge.train.simulation.bmode import Case, draw_case, render
from sonoedge.train.simulation.phantoms import LABELS, generate_phantoms, phantom


def digest(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def samples() -> dict[str, list[tuple[Case, np.ndarray, np.ndarray]]]:
    """Twelve views per class, with the case each was drawn from."""
    drawn: dict[str, list[tuple[Case, np.ndarray, np.ndarray]]] = {label: [] for label in LABELS}
    for label in LABELS:
        for seed in range(12):
            rng = np.random.default_rng([seed, LABELS.index(label)])
            case = draw_case(rng, label)
            drawn[label].append((case, *render(case, rng)))
    return drawn


@pytest.mark.long
@pytest.mark.parametrize("label", LABELS)
def test_images_are_8_bit_with_a_mask_of_the_same_size(samples, label) -> None:
    for case, image, mask in samples[label]:
        assert image.dtype == np.uint8 and mask.dtype == bool
        assert image.shape == mask.shape == (case.height, case.width)
        assert 240 <= image.shape[0] <= 360 and 300 <= image.shape[1] <= 420
        assert 0.005 < mask.mean() < 0.35
        assert image.std() > 15 and (image == 255).mean() < 0.05 and image.max() > 240


@pytest.mark.parametrize("label", LABELS)
def test_lesions_are_darker_than_the_tissue_beside_them(samples, label) -> None:
    contrast = []
    for _, image, mask in samples[label]:
        rows = mask.any(axis=1)
        beside = image[rows][~mask[rows]]
        contrast.append(float(beside.mean()) - float(image[mask].mean()))
    assert np.mean(contrast) > 20
    assert np.mean(np.array(contrast) > 0) > 0.9


def behind_minus_beside(image: np.ndarray, mask: np.ndarray) -> float:
    """Mean grey of a strip under the middle of the lesion minus that of the strips far to both sides."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    strip = image[rows[-1] + 4 : rows[-1] + 44].astype(float)
    assert len(strip) > 8, "no room behind the lesion"
    left, right = columns[0], columns[-1]
    middle = slice(left + (right - left) * 3 // 8, left + (right - left) * 5 // 8)
    sides = np.concatenate([strip[:, : max(left - 12, 1)], strip[:, right + 12 :]], axis=1)
    return float(strip[:, middle].mean() - sides.mean())


def test_shadow_and_enhancement_show_behind_the_lesion(samples) -> None:
    shadow, enhancement = [], []
    for case, image, mask in samples["benign"] + samples["malignant"]:
        (shadow if case.attenuation > 0 else enhancement).append(behind_minus_beside(image, mask))
    assert len(shadow) > 4 and len(enhancement) > 4
    assert np.mean(shadow) < -8
    assert np.mean(enhancement) > np.mean(shadow) + 15


def test_classes_differ_on_average_but_overlap() -> None:
    roughness: dict[str, list[float]] = {label: [] for label in LABELS}
    shadowing: dict[str, list[bool]] = {label: [] for label in LABELS}
    for label in LABELS:
        for seed in range(200):
            case = draw_case(np.random.default_rng(seed), label)
            roughness[label].append(sum(a for a, _ in case.harmonics))
            shadowing[label].append(case.attenuation > 0)
    assert np.median(roughness["malignant"]) > 2 * np.median(roughness["benign"])
    assert max(roughness["benign"]) > np.median(roughness["malignant"])
    assert 0.6 < np.mean(shadowing["malignant"]) < 0.9
    assert 0.1 < np.mean(shadowing["benign"]) < 0.4


def test_phantom_depends_on_the_generator_only() -> None:
    first, second = (phantom(np.random.default_rng(3), "malignant") for _ in range(2))
    other = phantom(np.random.default_rng(4), "malignant")
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
    assert first[0].shape != other[0].shape or (first[0] != other[0]).any()


def test_views_share_the_lesion_but_not_the_speckle() -> None:
    case = draw_case(np.random.default_rng(5), "benign")
    (first, mask), (second, moved) = (render(case, np.random.default_rng(s)) for s in (0, 1))
    overlap = (mask & moved).sum() / (mask | moved).sum()
    assert 0.5 < overlap < 1
    assert first.shape == second.shape
    assert (first != second).mean() > 0.9


@pytest.mark.long
def test_generate_is_reproducible_and_complete(tmp_path: Path) -> None:
    first = generate_phantoms(tmp_path / "a", cases_per_class=2, views_per_case=2, seed=1)
    second = generate_phantoms(tmp_path / "new" / "b", cases_per_class=2, views_per_case=2, seed=1)
    content = digest(first)
    assert content == digest(second)
    with (first / "images.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["image", "label", "case"]
    assert [row["image"] for row in rows[:2]] == ["benign/benign_0001_a.png", "benign/benign_0001_b.png"]
    assert len(rows) == 8 and len({row["case"] for row in rows}) == 4
    for row in rows:
        with Image.open(first / row["image"]) as image, Image.open(first / "masks" / row["image"]) as mask:
            assert image.mode == mask.mode == "L" and image.size == mask.size
            assert set(np.unique(np.asarray(mask))) == {0, 255}
        assert row["image"].startswith(f"{row['label']}/{row['case']}_")
    assert len(content) == 2 * 8 + 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "new"], "a temporary folder was left"


def test_more_cases_keep_the_first_ones(tmp_path: Path) -> None:
    few = digest(generate_phantoms(tmp_path / "few", cases_per_class=1, views_per_case=1))
    many = digest(generate_phantoms(tmp_path / "many", cases_per_class=2, views_per_case=1))
    pictures = [name for name in few if name.endswith(".png")]
    assert len(pictures) == 4
    assert all(few[name] == many[name] for name in pictures)


def test_an_identical_folder_is_reused_and_any_other_refused(tmp_path: Path) -> None:
    out = tmp_path / "data"
    out.mkdir()  # an empty folder may be used
    generate_phantoms(out, cases_per_class=1, views_per_case=1)
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    assert generate_phantoms(out, cases_per_class=1, views_per_case=1) == out
    assert before == {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    with pytest.raises(DataError, match="other settings"):
        generate_phantoms(out, cases_per_class=1, views_per_case=1, seed=9)
    (out / "masks" / "benign" / "benign_0001_a.png").unlink()
    with pytest.raises(DataError, match="1 images missing"):
        generate_phantoms(out, cases_per_class=1, views_per_case=1)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("keep")
    for taken in (mine, mine / "notes.txt"):
        with pytest.raises(DataError, match="not written by"):
            generate_phantoms(taken, cases_per_class=1)
    assert (mine / "notes.txt").read_text() == "keep"


@pytest.mark.parametrize(
    "wrong", [{"cases_per_class": 0}, {"views_per_case": 0}, {"views_per_case": 27}, {"seed": -1}]
)
def test_numbers_out_of_range(tmp_path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="Received"):
        generate_phantoms(tmp_path / "x", **wrong)
    assert not (tmp_path / "x").exists()


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser("sonoedge phantoms", formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    assert "examples:\n  sonoedge phantoms --out phantoms\n" in parser.format_help()
    assert run(parser.parse_args(["--out", str(tmp_path / "p"), "--cases", "1", "--views", "1"])) == 0
    assert capsys.readouterr().out.startswith("2 images of 2 simulated cases in ")
