"""``sonoedge predict`` on a real bundle: files, folders, broken images among good ones, names of its outputs."""

from __future__ import annotations

import io
import json
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sonoedge.edge_runtime.commands.predict import output_stems
from sonoedge.edge_runtime.errors import ImageError
from sonoedge.edge_runtime.model.classifier import Classifier
from tests.helpers.commands import Result

Run = Callable[..., Result]


def picture(mode: str) -> Image.Image:
    grey = np.random.default_rng(1).integers(0, 256, (60, 80), dtype=np.uint8)
    if mode == "I;16":
        return Image.fromarray(grey.astype(np.uint16) * 200)
    image = Image.fromarray(grey)
    return image.convert("RGB").convert(mode) if mode in {"CMYK", "P", "RGBA"} else image.convert(mode)


def encoded(mode: str, suffix: str) -> bytes:
    buffer = io.BytesIO()
    picture(mode).save(buffer, {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix.upper()))
    return buffer.getvalue()


def huge_png_header() -> bytes:
    """A PNG that announces 30,000 x 30,000 pixels and holds almost none."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)
    data = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


GOOD = {
    "grey.png": encoded("L", "png"),
    "16-bit.png": encoded("I;16", "png"),
    "palette.png": encoded("P", "png"),
    "alpha.png": encoded("RGBA", "png"),
    "cmyk.jpg": encoded("CMYK", "jpg"),
    "one-bit.tif": encoded("1", "tif"),
    "colour.bmp": encoded("RGB", "bmp"),
}
BROKEN = {
    "truncated.png": GOOD["grey.png"][:400],
    "empty.png": b"",
    "text.png": b"this is not an image",
    "huge.png": huge_png_header(),
    "truncated.jpg": GOOD["cmyk.jpg"][:300],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = tmp_path / "images"
    images.mkdir()
    for name, data in {**GOOD, **BROKEN}.items():
        (images / name).write_bytes(data)
    return images


def test_broken_images_do_not_stop_the_others(sonoedge: Run, run_bundle: Path, folder: Path) -> None:
    result = sonoedge("predict", "--bundle", run_bundle, "--json", folder)
    assert result.code == 3
    answers = [json.loads(line) for line in result.out.splitlines()]
    assert sorted(Path(answer["image"]).name for answer in answers) == sorted(GOOD)
    for name in BROKEN:
        assert sum(name in line for line in result.err.splitlines()) == 1
    assert f"{len(BROKEN)} of {len(GOOD) + len(BROKEN)} images" in result.err
    assert "Traceback" not in result.err


def test_all_good_is_exit_code_0_and_a_line_each(sonoedge: Run, run_bundle: Path, phantoms: Path) -> None:
    files = sorted((phantoms / "benign").iterdir())[:3]
    result = sonoedge("predict", "--bundle", run_bundle, *files)
    assert result.code == 0
    assert len(result.out.splitlines()) == 3
    assert "Research use only" in result.err


def test_decision_is_probability_against_the_artifacts_threshold(run_bundle: Path, phantoms: Path) -> None:
    classifier = Classifier(run_bundle)
    for prediction in classifier.stream(sorted(phantoms.glob("*/*.png"))[:12], ungated=True):
        assert not isinstance(prediction, ImageError)
        positive = prediction.probability >= classifier.artifact.threshold
        assert prediction.label == ("malignant" if positive else "benign")


def test_explanations_are_written_beside_answers(
    sonoedge: Run, run_bundle: Path, phantoms: Path, tmp_path: Path
) -> None:
    image = phantoms / "malignant" / "malignant_0002_b.png"
    heat = tmp_path / "heat"
    result = sonoedge("predict", "--bundle", run_bundle, "--json", "--explain", heat, image)
    assert result.code == 0
    with Image.open(image) as original, Image.open(heat / "malignant_0002_b.overlay.png") as overlay:
        assert overlay.size == original.size
    with np.load(heat / "malignant_0002_b.npz") as archive:
        assert archive["cam"].shape == (2, 2)
        assert (archive["cam"] >= 0).all()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--artifact", "tflite-int4"], 2, "tflite-fp32"),
        (["--artifact", "openvino-int8"], 2, "has no artifact"),
        (["--explain", "OUT", "--explain-class", "cyst"], 2, "cyst"),
    ],
)
def test_bad_options(
    arguments: list[str], code: int, message: str, sonoedge: Run, run_bundle: Path, phantoms: Path, tmp_path: Path
) -> None:
    arguments = [argument.replace("OUT", str(tmp_path / "heat")) for argument in arguments]
    result = sonoedge("predict", "--bundle", run_bundle, *arguments, phantoms / "benign" / "benign_0001_a.png")
    assert result.code == code
    assert message in result.err
    assert not (tmp_path / "heat").exists()


def test_missing_files_and_empty_folders(sonoedge: Run, run_bundle: Path, tmp_path: Path) -> None:
    assert sonoedge("predict", "--bundle", run_bundle, tmp_path / "nowhere.png").code == 3
    assert sonoedge("predict", "--bundle", run_bundle, tmp_path).code == 3
    assert sonoedge("predict", "--bundle", tmp_path, tmp_path / "nowhere.png").code == 4


def test_no_interpreter_names_the_extra(
    sonoedge: Run, run_bundle: Path, phantoms: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sonoedge.edge_runtime.model.classifier.is_available", lambda runtime: False)
    result = sonoedge("predict", "--bundle", run_bundle, phantoms / "benign")
    assert result.code == 7
    assert 'pip install ".[litert]"' in result.err


def test_a_bundle_that_is_replaced_while_it_runs(run_bundle: Path, phantoms: Path, tmp_path: Path) -> None:
    """The open classifier keeps its files: an update on the device does not crash what is running."""
    copy = tmp_path / "bundle"
    shutil.copytree(run_bundle, copy)
    classifier = Classifier(copy, "tflite-int8")
    image = phantoms / "benign" / "benign_0001_a.png"
    before = classifier(image, ungated=True).logit
    (copy / "tflite-int8" / "backbone.tflite").write_bytes(b"")
    assert classifier(image, ungated=True).logit == before


def test_a_bundle_without_an_artifact_for_this_device_names_those_it_has(
    float_bundle: Path, phantoms: Path, sonoedge: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sonoedge.edge_runtime.model.classifier.is_available", lambda runtime: False)
    result = sonoedge("predict", "--bundle", float_bundle, phantoms / "benign")
    assert result.code == 7
    assert "tflite-fp32 (tflite)" in result.err and "pip install" in result.err


def stems(*names: str) -> list[str]:
    return [stem.as_posix() for stem in output_stems([Path(name) for name in names])]


def test_unique_stems_stay_as_they_are() -> None:
    assert stems("a/x.png", "b/y.png", "/deep/er/z.v2.jpg") == ["x", "y", "z.v2"]
    assert stems() == []


def test_equal_stems_are_mirrored_as_sub_folders() -> None:
    assert stems("d/a/x.png", "d/b/x.png", "d/b/y.png") == ["a/x", "b/x", "y"]
    assert stems("d/x.png", "d/sub/x.png") == ["x", "sub/x"]
    assert stems("d/a/1/x.png", "d/b/1/x.png") == ["a/1/x", "b/1/x"]


def test_two_suffixes_in_one_folder_are_kept() -> None:
    assert stems("d/x.png", "d/x.jpg") == ["x.png", "x.jpg"]
    assert stems("d/x.png", "d/x.jpg", "e/x.png") == ["d/x.png", "d/x.jpg", "e/x"]


@pytest.mark.long
@settings(max_examples=200)
@given(
    st.sets(
        st.tuples(
            st.lists(st.sampled_from(["a", "b", "x"]), max_size=3).map(tuple),
            st.sampled_from(["x", "y", "x.v2"]),
            st.sampled_from([".png", ".jpg", ".PNG"]),
        ),
        max_size=8,
    )
)
def test_stems_are_all_different(parts: set[tuple[tuple[str, ...], str, str]]) -> None:
    paths = [Path("/data/one").joinpath(*folders, stem + suffix) for folders, stem, suffix in sorted(parts)]
    found = output_stems(paths)
    assert len(found) == len(paths)
    assert len(set(found)) == len(found)
    assert not any(stem.is_absolute() or ".." in stem.parts for stem in found)


def test_a_stem_that_is_another_files_name() -> None:
    assert len(set(stems("d/x.png", "d/x.jpg", "d/x.png.png", "d/x.png.png.png"))) == 4


def test_stems_never_leave_the_output_folder() -> None:
    found = stems("../other/x.png", "here/x.png", "here/../../third/x.png")
    assert len(set(found)) == 3
    assert not any(".." in name or name.startswith("/") for name in found)


@pytest.mark.long
@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from(["a", "b", "x.png", ".."]), max_size=3),
            st.sampled_from(["x", "y", "x.png", "x.jpg"]),
            st.sampled_from([".png", ".jpg", ".png.png", ""]),
        ),
        max_size=8,
    )
)
def test_stems_of_awkward_paths_are_all_different(parts: list[tuple[list[str], str, str]]) -> None:
    base = Path("/data/one/two/three")
    paths = [base.joinpath(*folders, stem + suffix) for folders, stem, suffix in parts]
    different = list({path.resolve(): path for path in paths}.values())
    found = output_stems(different)
    assert len(found) == len(different)
    assert len(set(found)) == len(found)
    assert not any(stem.is_absolute() or ".." in stem.parts for stem in found)
