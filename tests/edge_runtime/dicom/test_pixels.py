"""Grey values of DICOM frames (one mapping for all frames of a file) and files that unpack to too much."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sonoedge.edge_runtime.dicom.read import decode_dicom, read_dicom
from sonoedge.edge_runtime.errors import ImageError
from sonoedge.edge_runtime.imaging.image import decode_image, find_images, read_image
from tests.helpers.places import SMALL_BUNDLE

pydicom = pytest.importorskip("pydicom")
from pydicom import encaps, uid  # noqa: E402
from pydicom.dataset import Dataset  # noqa: E402

from tests.helpers.dicoms import by_pillow, compressed, dicom, gdcm_transcoded, picture, saved  # noqa: E402

BUNDLE = SMALL_BUNDLE
GREY = (picture()[..., 0] * 0.3 + 40).astype(np.uint8)  # neither black nor white: a stretch would show


def grey_dicom(frames: list[np.ndarray], **attributes: Any) -> bytes:
    return saved(dicom(frames, attributes.pop("photometric", "MONOCHROME2"), **attributes))


IDENTITIES: list[dict[str, Any]] = [
    {"WindowCenter": 128, "WindowWidth": 256},
    {"WindowCenter": [128, 40], "WindowWidth": [256, 80]},
    {"WindowCenter": 127.5, "WindowWidth": 255, "VOILUTFunction": "LINEAR_EXACT"},
    {"RescaleSlope": 1, "RescaleIntercept": 0},
    {"RescaleSlope": 1, "RescaleIntercept": -1024},
    {"RescaleSlope": "0.1", "RescaleIntercept": "3.7"},
    {"RescaleSlope": 1, "RescaleIntercept": 0, "WindowCenter": 128, "WindowWidth": 256},
    {"WindowCenter": "", "WindowWidth": ""},
]


@pytest.mark.parametrize("attributes", IDENTITIES, ids=str)
def test_an_identity_changes_no_pixel(attributes: dict[str, Any], tmp_path: Path) -> None:
    """The same pixels as PNG and as DICOM are the same image."""
    Image.fromarray(GREY).save(tmp_path / "grey.png")
    (tmp_path / "grey.dcm").write_bytes(grey_dicom([GREY], **attributes))
    np.testing.assert_array_equal(read_image(tmp_path / "grey.dcm"), read_image(tmp_path / "grey.png"))
    inverted = decode_image(grey_dicom([GREY], photometric="MONOCHROME1", **attributes))
    np.testing.assert_array_equal(inverted[..., 1], 255 - GREY)


def identity_table(keyword: str) -> dict[str, Any]:
    item = Dataset()
    item.LUTDescriptor, item.LUTData = [256, 0, 8 if keyword == "VOILUTSequence" else 16], list(range(256))
    if keyword == "ModalityLUTSequence":
        item.ModalityLUTType = "US"
    item["LUTDescriptor"].VR = item["LUTData"].VR = "US"
    return {keyword: [item]}


@pytest.mark.parametrize("keyword", ["VOILUTSequence", "ModalityLUTSequence"])
def test_an_identity_table_changes_no_pixel(keyword: str) -> None:
    np.testing.assert_array_equal(decode_image(grey_dicom([GREY], **identity_table(keyword)))[..., 0], GREY)


def test_signed_values_without_a_window() -> None:
    signed = (GREY.astype(int) - 128).astype(np.int8)
    np.testing.assert_array_equal(
        decode_image(grey_dicom([signed.view(np.uint8)], PixelRepresentation=1))[..., 0], GREY
    )


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"WindowCenter": 100.5, "WindowWidth": 101}, [0, 0, 128, 255, 255]),
        ({"WindowCenter": 100, "WindowWidth": 100, "VOILUTFunction": "LINEAR_EXACT"}, [0, 0, 128, 255, 255]),
        ({"WindowCenter": 100.5, "WindowWidth": 1}, [0, 0, 0, 255, 255]),
        ({"WindowCenter": 100, "WindowWidth": 40, "VOILUTFunction": "SIGMOID"}, [0, 2, 128, 253, 255]),
        ({"RescaleSlope": -1, "RescaleIntercept": 255}, [255, 205, 155, 105, 0]),
    ],
    ids=str,
)
def test_windows_of_the_standard(attributes: dict[str, Any], expected: list[int]) -> None:
    """PS3.3 C.11.2.1: worked out by hand for 0, 50, 100, 150, 255."""
    values = np.tile(np.array([0, 50, 100, 150, 255, 255], np.uint8), (2, 1))
    assert decode_image(grey_dicom([values], **attributes))[0, :5, 0].tolist() == expected


LOOPS: list[tuple[str, Any, dict[str, Any]]] = [
    ("8 bits", np.uint8, {"RescaleSlope": 1, "RescaleIntercept": 0}),
    ("window", np.uint8, {"WindowCenter": 90, "WindowWidth": 120}),
    ("16 bits", np.uint16, {}),
    ("16 bits, window", np.uint16, {"WindowCenter": 90, "WindowWidth": 120}),
]


@pytest.mark.parametrize(("kind", "type_", "attributes"), LOOPS, ids=[loop[0] for loop in LOOPS])
def test_a_value_has_one_grey_in_all_frames(kind: str, type_: Any, attributes: dict[str, Any]) -> None:
    """A bright reflector in one frame does not darken what stays the same: loops do not flicker."""
    frames = [GREY.astype(type_) for _ in range(3)]
    frames[1][:8] = 200
    opened = read_dicom(grey_dicom(frames, **attributes))
    shown = list(opened)
    np.testing.assert_array_equal(shown[0], shown[2])
    np.testing.assert_array_equal(shown[0][8:], shown[1][8:])
    np.testing.assert_array_equal(opened.frame(1), shown[1])  # alone as in the loop
    if kind == "16 bits":
        assert (min(f.min() for f in shown), max(f.max() for f in shown)) == (0, 255)


def test_a_palette_of_16_bits_has_one_scale_in_all_frames() -> None:
    """Entries below 256 exist in every 16-bit palette; a frame that uses only these is dark, not bright."""
    frames = [np.zeros((48, 64), np.uint8), np.full((48, 64), 200, np.uint8)]
    data = dicom(frames, "PALETTE COLOR")
    table = (np.arange(256) * 257).astype("<u2")
    table[0] = 200
    for name in ("Red", "Green", "Blue"):
        setattr(data, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(data, f"{name}PaletteColorLookupTableData", table.tobytes())
    assert [frame.max() for frame in read_dicom(saved(data))] == [0, 200]


def test_a_loop_is_not_answered_from_its_first_frame(tmp_path: Path) -> None:
    frames = [picture(10 * i) for i in range(4)]
    path = tmp_path / "loop.dcm"
    path.write_bytes(saved(dicom(frames, "RGB")))
    with pytest.raises(ImageError, match=r"loop\.dcm holds 4 frames.*--frame \(1 to 4\).*sonoedge stream"):
        read_image(path)
    np.testing.assert_array_equal(read_image(path, frame=3), frames[2])
    np.testing.assert_array_equal(decode_dicom(path.read_bytes(), frame=1), frames[0])
    for number in (0, 5, -1):
        with pytest.raises(ImageError, match=rf"no frame {number}: it holds 4"):
            read_image(path, frame=number)


@pytest.mark.parametrize("command", ["predict", "explain"])
def test_commands_ask_which_frame(command: str, tmp_path: Path, sonoedge: Callable) -> None:
    path, still = tmp_path / "loop.dcm", tmp_path / "still.png"
    path.write_bytes(saved(dicom([picture(), picture(90)], "RGB")))
    Image.fromarray(picture(90)).save(still)
    arguments = ["--bundle", BUNDLE, "--artifact", "tflite-fp32", "--ungated", "--json"]
    arguments += ["--out", tmp_path / "heat"] if command == "explain" else []
    asked = sonoedge(command, *arguments, path, still)
    assert (asked.code, len(asked.out.splitlines())) == (3, 1)  # the still is answered all the same
    assert "loop.dcm holds 2 frames" in asked.err and "Traceback" not in asked.err
    second = json.loads(sonoedge(command, *arguments, "--frame", 2, path).out)
    assert (second["image"], second["frame"]) == (str(path), 2)
    assert second["logit"] == pytest.approx(json.loads(asked.out)["logit"])
    assert sonoedge(command, *arguments, "--frame", 3, path).code == 3
    if command == "predict":
        assert f"{path} frame 2" in sonoedge(command, *arguments[:-1], "--frame", 2, path).out


def test_a_still_has_frame_1(tmp_path: Path) -> None:
    Image.fromarray(picture()).save(tmp_path / "still.png")
    np.testing.assert_array_equal(read_image(tmp_path / "still.png", frame=1), picture())
    with pytest.raises(ImageError, match="no frame 2"):
        read_image(tmp_path / "still.png", frame=2)


def disc(folder: Path) -> list[Path]:
    """A CD of a hospital's archive: files without suffix or named by number, DICOMDIR, a viewer."""
    names = ["IMAGES/IM000001", "IMAGES/1.2.840.113619.7", "IMAGES/still.img"]
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(saved(dicom([picture()], "RGB")))
    contents = dicom([picture()], "RGB")
    contents.file_meta.MediaStorageSOPClassUID = contents.SOPClassUID = uid.MediaStorageDirectoryStorage
    (folder / "DICOMDIR").write_bytes(saved(contents))
    for name, content in (("VIEWER/autorun.exe", b"MZ" * 300), ("README", b"hello"), ("EMPTY", b"")):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    return sorted(folder / name for name in names)


def test_images_of_a_disc_are_found(tmp_path: Path) -> None:
    expected = disc(tmp_path)
    assert (tmp_path / "DICOMDIR").read_bytes()[128:132] == b"DICM"
    assert find_images(tmp_path) == expected
    for path in expected:
        np.testing.assert_array_equal(read_image(path), picture())
    with pytest.raises(ImageError, match="table of contents of a disc"):
        read_image(tmp_path / "DICOMDIR")


def deflated(size: int) -> bytes:
    """A still whose deflated form unpacks to ``size`` bytes more than its pixels."""
    data = dicom([picture()], "RGB", syntax=uid.DeflatedExplicitVRLittleEndian)
    data.PixelData = data.PixelData + bytes(size)
    return saved(data)


@pytest.mark.long
def test_a_deflated_file_is_not_inflated_without_limit() -> None:
    data = deflated(200 << 20)
    assert len(data) < 1 << 20
    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match=r"deflated DICOM file of more than 16 MiB"):
            decode_dicom(data, max_pixels=100_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 48 << 20, peak


def test_a_deflated_file_reads_as_it_is() -> None:
    np.testing.assert_array_equal(decode_dicom(deflated(0)), picture())
    with pytest.raises(ImageError, match="breaks off"):
        decode_dicom(deflated(0)[:-20])


def test_a_compressed_frame_larger_than_its_header() -> None:
    """A few kilobytes of JPEG 2000 or RLE can hold thousands of times as much."""
    large = np.zeros((4000, 4000, 3), np.uint8)
    encoded = by_pillow("JPEG2000", irreversible=False, mct=0, no_jp2=True)(large)
    data = dicom([picture()], "RGB", syntax=uid.JPEG2000Lossless)
    data.PixelData = encaps.encapsulate([encoded])
    data["PixelData"].is_undefined_length = True
    with pytest.raises(ImageError, match="not of the size in its header"):
        decode_dicom(saved(data))

    header = np.zeros(16, "<u4")
    header[:2] = 1, 64
    run = b"\x81\0" * 50_000  # 128 zeros each
    data = dicom([GREY], "MONOCHROME2", syntax=uid.RLELossless)
    data.PixelData = encaps.encapsulate([header.tobytes() + run])
    data["PixelData"].is_undefined_length = True
    with pytest.raises(ImageError, match="not of the size in its header"):
        decode_dicom(saved(data))


def test_jpeg_2000_of_its_size_is_read() -> None:
    code = by_pillow("JPEG2000", irreversible=False, mct=0, no_jp2=True)
    np.testing.assert_array_equal(
        decode_dicom(compressed([picture()], uid.JPEG2000Lossless, "RGB", code)), picture()
    )


def test_a_loop_of_the_child_has_one_scale() -> None:
    """12 bits in JPEG-LS, decoded by GDCM: the child measures the range as we do here."""
    frames = [(GREY.astype(np.uint16) * 16) for _ in range(3)]
    frames[1][:8] = 4000
    data = gdcm_transcoded(grey_dicom(frames, BitsStored=12, HighBit=11), uid.JPEGLSLossless)
    shown = list(read_dicom(data))
    np.testing.assert_array_equal(shown[0], shown[2])
    np.testing.assert_array_equal(shown[0][8:], shown[1][8:])
    np.testing.assert_array_equal(read_dicom(data).frame(0), shown[0])
