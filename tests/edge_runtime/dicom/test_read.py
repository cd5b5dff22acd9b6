"""DICOM in every form an ultrasound machine writes it, the overlay as Secondary Capture, and patient data."""

from __future__ import annotations

import io
import random
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sonoedge.edge_runtime.dicom.read import read_dicom
from sonoedge.edge_runtime.dicom.secondary_capture import secondary_capture
from sonoedge.edge_runtime.errors import ImageError
from sonoedge.edge_runtime.imaging.image import decode_image
from sonoedge.edge_runtime.types import Region
from tests.helpers.dicoms import (
    HEIGHT,
    LOSSLESS,
    SECRET,
    WIDTH,
    by_pillow,
    compressed,
    dicom,
    lossless,
    picture,
    saved,
)

pydicom = pytest.importorskip("pydicom")
from pydicom import encaps, uid  # noqa: E402
from pydicom.dataset import Dataset  # noqa: E402


def test_rgb_cine_frames() -> None:
    frames = [picture(10 * i) for i in range(4)]
    opened = read_dicom(saved(dicom(frames, "RGB", FrameTime="40.0")))
    assert (opened.frames, opened.frame_ms) == (4, 40.0)
    for expected, frame in zip(frames, opened, strict=True):
        np.testing.assert_array_equal(frame, expected)


def test_planar_rgb() -> None:
    data = dicom([picture()], "RGB", PlanarConfiguration=1)
    data.PixelData = np.ascontiguousarray(picture().transpose(2, 0, 1)).tobytes()
    np.testing.assert_array_equal(decode_image(saved(data)), picture())


def test_ybr_full() -> None:
    ycc = np.asarray(Image.fromarray(picture()).convert("YCbCr"))
    decoded = decode_image(saved(dicom([ycc], "YBR_FULL")))
    assert np.abs(decoded.astype(int) - picture()).max() <= 3


def test_ybr_full_422() -> None:
    ycc = np.asarray(Image.fromarray(picture()).convert("YCbCr")).astype(int)
    chroma = (ycc[:, ::2, 1:] + ycc[:, 1::2, 1:] + 1) // 2
    packed = np.stack([ycc[:, ::2, 0], ycc[:, 1::2, 0], chroma[..., 0], chroma[..., 1]], axis=2).astype(np.uint8)
    data = dicom([picture()], "YBR_FULL_422")
    data.PixelData = packed.tobytes()
    decoded = decode_image(saved(data))
    assert decoded.shape == picture().shape
    assert np.abs(decoded.astype(int) - picture()).max() <= 8


@pytest.mark.parametrize("bits", [8, 16])
def test_palette(bits: int) -> None:
    indices = (np.arange(HEIGHT * WIDTH) % 256).reshape(HEIGHT, WIDTH).astype(np.uint8)
    red = np.arange(256)
    tables = {"Red": red, "Green": 255 - red, "Blue": red // 2}
    data = dicom([indices], "PALETTE COLOR")
    for name, table in tables.items():
        setattr(data, f"{name}PaletteColorLookupTableDescriptor", [256, 0, bits])
        entries = table.astype(np.uint8) if bits == 8 else (table * 257).astype("<u2")
        setattr(data, f"{name}PaletteColorLookupTableData", entries.tobytes())
    expected = np.stack([table[indices] for table in tables.values()], axis=2)
    np.testing.assert_array_equal(decode_image(saved(data)), expected)


@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda value: uid.UID(value).name)
def test_lossless_syntaxes(syntax: str) -> None:
    np.testing.assert_array_equal(decode_image(lossless(syntax)), picture())


def test_jpeg_baseline_cine_in_ybr_422() -> None:
    frames = [picture(8 * i) for i in range(3)]
    data = compressed(frames, uid.JPEGBaseline8Bit, "YBR_FULL_422", by_pillow("JPEG", quality=95))
    opened = read_dicom(data)
    assert opened.frames == 3
    for frame, expected in zip(opened, frames, strict=True):
        assert np.abs(frame.astype(int) - expected).mean() < 4


def test_a_syntax_that_nothing_decodes() -> None:
    data = dicom([picture()], "RGB", syntax=uid.HEVCMP51)
    data.PixelData = encaps.encapsulate([b"\0\0\0\1" + b"x" * 60])
    data["PixelData"].is_undefined_length = True
    with pytest.raises(ImageError, match="without a readable image"):
        decode_image(saved(data))


def test_region_and_spacing() -> None:
    region = Dataset()
    region.RegionDataType, region.RegionSpatialFormat, region.RegionFlags = 1, 1, 0
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 4, 6
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 59, 45
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX, region.PhysicalDeltaY = 0.01, 0.02
    opened = read_dicom(saved(dicom([picture()], "RGB", SequenceOfUltrasoundRegions=[region])))
    assert opened.region == Region(4, 6, 60, 46)
    assert opened.spacing_mm == pytest.approx((0.2, 0.1))
    region.RegionLocationMaxX1 = 4000
    assert read_dicom(saved(dicom([picture()], "RGB", SequenceOfUltrasoundRegions=[region]))).region is None


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [({"FrameTime": "33.3"}, 33.3), ({"CineRate": "20"}, 50.0), ({}, None), ({"FrameTime": "0"}, None)],
)
def test_frame_times(attributes: dict[str, str], expected: float | None) -> None:
    assert read_dicom(saved(dicom([picture(), picture(9)], "RGB", **attributes))).frame_ms == expected


def test_secondary_capture_belongs_to_the_study() -> None:
    source_data = saved(dicom([picture()], "RGB"))
    source = read_dicom(source_data)
    original = pydicom.dcmread(io.BytesIO(source_data))
    out = pydicom.dcmread(io.BytesIO(secondary_capture([picture(5)], source, text="p=0.9", deidentify=False)))
    assert out.SOPClassUID == uid.SecondaryCaptureImageStorage
    assert (out.PatientName, out.PatientID) == (SECRET, "ID-QX4711")
    assert out.StudyInstanceUID == original.StudyInstanceUID
    assert out.SeriesInstanceUID != original.get("SeriesInstanceUID")
    assert out.SourceImageSequence[0].ReferencedSOPInstanceUID == original.SOPInstanceUID
    assert "not a medical device" in out.DerivationDescription.lower()
    np.testing.assert_array_equal(out.pixel_array, picture(5))


def test_deidentified_capture_has_nothing_of_the_patient() -> None:
    source_data = saved(dicom([picture()], "RGB"))
    data = secondary_capture([picture()], read_dicom(source_data), text="p=0.9", deidentify=True)
    for secret in (SECRET, "Jane", "QX4711", "19700101", "20260102"):
        assert secret.encode() not in data
    original = pydicom.dcmread(io.BytesIO(source_data))
    for identifier in (original.StudyInstanceUID, original.SOPInstanceUID):
        assert str(identifier).encode() not in data
    assert pydicom.dcmread(io.BytesIO(data)).PatientIdentityRemoved == "YES"


def test_multi_frame_capture_reads_back() -> None:
    frames = [picture(10 * i) for i in range(3)]
    data = secondary_capture(frames, None, text="", deidentify=False)
    assert pydicom.dcmread(io.BytesIO(data)).SOPClassUID == uid.MultiFrameTrueColorSecondaryCaptureImageStorage
    for frame, expected in zip(read_dicom(data), frames, strict=True):
        np.testing.assert_array_equal(frame, expected)


@pytest.mark.parametrize(
    "attributes",
    [
        {"NumberOfFrames": 999999}, {"NumberOfFrames": 5}, {"Rows": 60000, "Columns": 60000}, {"Rows": 0},
        {"BitsAllocated": 7}, {"SamplesPerPixel": 9}, {"PhotometricInterpretation": "XYZ"},
    ],
    ids=str,
)  # fmt: skip
def test_headers_that_lie(attributes: dict[str, Any]) -> None:
    with pytest.raises(ImageError) as caught:
        for _ in read_dicom(saved(dicom([picture()], "RGB", **attributes))):
            pass
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "kind",
    # The last two are decoded in a child process, half a second each.
    [
        "native",
        "rle",
        "jpeg",
        "jpeg2000",
        *(pytest.param(k, marks=pytest.mark.slow) for k in ("jpegls", "jpeglossless")),
    ],
)
def test_damaged_files_never_crash_or_name_the_patient(kind: str) -> None:
    """Truncations and single changed bytes: an image or one `ImageError` without the patient's name."""
    data = {
        "native": lambda: saved(dicom([picture()], "RGB")),
        "rle": lambda: lossless(uid.RLELossless),
        "jpeg": lambda: compressed([picture()], uid.JPEGBaseline8Bit, "YBR_FULL_422", by_pillow("JPEG")),
        "jpeg2000": lambda: lossless(uid.JPEG2000Lossless),
        "jpegls": lambda: lossless(uid.JPEGLSLossless),
        "jpeglossless": lambda: lossless(uid.JPEGLosslessSV1),
    }[kind]()
    rng = random.Random(3)
    answers = {"image": 0, "refused": 0}
    # Lossless JPEG is decoded in a child process, half a second each: GDCM does crash on these files.
    for _ in range(8 if kind in {"jpegls", "jpeglossless"} else 120):
        changed = bytearray(data)
        if rng.random() < 0.3:
            changed = changed[: rng.randrange(132, len(data))]
        for _ in range(rng.choice((1, 1, 4))):
            changed[rng.randrange(132, len(changed))] = rng.randrange(256)
        try:
            image = decode_image(bytes(changed))
        except ImageError as error:
            answers["refused"] += 1
            assert "Jane" not in str(error)
        else:
            answers["image"] += 1
            assert image.dtype == np.uint8
            assert image.shape[2] == 3
    assert sum(answers.values()) == 8 or min(answers.values()) > 0, answers
