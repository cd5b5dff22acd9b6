"""DICOM stills become RGB pictures."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from sonoedge.edge_runtime.errors import ImageError, MissingExtraError
from sonoedge.edge_runtime.imaging.image import decode_image
from tests.helpers.pictures import DICOM_PREFIX, encode_dicom, rgb_pattern, sample_dicoms


def test_dicom_monochrome2_8_bit() -> None:
    grey = rgb_pattern()[..., 0]
    decoded = decode_image(encode_dicom(grey, "MONOCHROME2"))
    np.testing.assert_array_equal(decoded, np.repeat(grey[..., None], 3, axis=2))


def test_dicom_monochrome1_is_inverted() -> None:
    grey = rgb_pattern()[..., 0]
    np.testing.assert_array_equal(decode_image(encode_dicom(grey, "MONOCHROME1"))[..., 2], 255 - grey)


@pytest.mark.parametrize(
    ("photometric", "expected"), [("MONOCHROME2", [0, 128, 255]), ("MONOCHROME1", [255, 127, 0])]
)
def test_dicom_16_bit_is_stretched(photometric: str, expected: list[int]) -> None:
    grey = np.tile(np.array([1000, 2004, 3000], np.uint16), (2, 1))
    decoded = decode_image(encode_dicom(grey, photometric))
    assert decoded.dtype == np.uint8
    assert decoded[0, :, 0].tolist() == expected


def test_dicom_window_clips() -> None:
    grey = np.tile(np.array([0, 1000, 2000, 3000, 60000], np.uint16), (2, 1))
    decoded = decode_image(encode_dicom(grey, "MONOCHROME2", WindowCenter="2000", WindowWidth="2000"))
    assert decoded[0, :, 0].tolist() == [0, 0, 128, 255, 255]


def test_dicom_rgb_and_deflated() -> None:
    files = sample_dicoms()
    np.testing.assert_array_equal(decode_image(files["colour"]), rgb_pattern())
    np.testing.assert_array_equal(decode_image(files["deflated"])[..., 0], rgb_pattern()[..., 0])


def test_dicom_without_an_image() -> None:
    pytest.importorskip("pydicom")
    with pytest.raises(ImageError, match="without a readable image"):
        decode_image(DICOM_PREFIX + b"\0" * 64)


def test_dicom_that_claims_too_many_pixels() -> None:
    data = encode_dicom(rgb_pattern()[..., 0], "MONOCHROME2", Rows=30000, Columns=30000)
    with pytest.raises(ImageError, match="30000x30000"):
        decode_image(data)


def test_dicom_without_pydicom(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(MissingExtraError, match=r"\.\[dicom\]") as caught:
        decode_image(DICOM_PREFIX + b"\0" * 64)
    assert (caught.value.package, caught.value.extra) == ("pydicom", "dicom")
