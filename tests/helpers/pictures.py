"""Pictures and clips as arrays and as files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sonoedge.edge_runtime.dicom.secondary_capture import secondary_capture
from sonoedge.edge_runtime.stream.recording import Recorder


def picture(seed: int, height: int = 60, width: int = 80) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.repeat(rng.integers(0, 200, (height, width, 1)).astype(np.uint8), 3, axis=2)


PICTURES = [picture(i) for i in range(6)]


def write_source(kind: str, folder: Path) -> Path:
    """`PICTURES` as a folder, GIF, TIFF, DICOM cine, video, or lossless JPEG cine."""
    images = [Image.fromarray(p) for p in PICTURES]
    path = folder / f"clip.{kind}"
    if kind == "folder":
        path.mkdir()
        for index, image in enumerate(images):
            image.save(path / f"{index}.png")
    elif kind in {"gif", "tif"}:
        options = {"duration": 50} if kind == "gif" else {}
        images[0].save(path, save_all=True, append_images=images[1:], **options)
    elif kind == "dcm":
        pytest.importorskip("pydicom")
        path.write_bytes(secondary_capture(PICTURES, None, text="", deidentify=True))
    else:
        pytest.importorskip("av")
        with Recorder(path, frame_ms=50) as recorder:
            for frame in PICTURES:
                recorder.add(frame)
    return path


HEIGHT, WIDTH = 40, 56
DICOM_PREFIX = b"\0" * 128 + b"DICM"


def rgb_pattern() -> np.ndarray:
    """Smooth enough for JPEG, different in every channel and not symmetric."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.stack([4 * x, 6 * y, 2 * (x + y)], axis=2).astype(np.uint8)


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def encode_dicom(pixels: np.ndarray, photometric: str, **attributes: Any) -> bytes:
    """A still image, explicit little endian unless ``syntax`` says otherwise."""
    pydicom = pytest.importorskip("pydicom")
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = attributes.pop("syntax", ExplicitVRLittleEndian)
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    bits = 8 * pixels.dtype.itemsize
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    if pixels.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = photometric
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit = bits - 1
    dataset.PixelRepresentation = 0
    dataset.add_new(pydicom.tag.Tag("PixelData"), "OW" if bits == 16 else "OB", pixels.tobytes())
    for name, value in attributes.items():
        setattr(dataset, name, value)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def sample_files() -> dict[str, bytes]:
    image = Image.fromarray(rgb_pattern())
    return {
        "png": encode(image, "PNG"),
        "palette": encode(image.convert("P"), "PNG", transparency=0),
        "jpeg": encode(image, "JPEG"),
        "progressive": encode(image, "JPEG", progressive=True),
        "cmyk": encode(image.convert("CMYK"), "JPEG"),
        "bmp": encode(image, "BMP"),
        "tiff": encode(image, "TIFF"),
        "lzw": encode(image, "TIFF", compression="tiff_lzw"),
        "float": encode(Image.fromarray(np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)), "TIFF"),
    }


def sample_dicoms() -> dict[str, bytes]:
    pytest.importorskip("pydicom")
    from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

    rgb = rgb_pattern()
    grey = rgb[..., 0]
    return {
        "grey": encode_dicom(grey, "MONOCHROME2"),
        "wide": encode_dicom(grey.astype(np.uint16) * 200, "MONOCHROME1", WindowCenter="900", WindowWidth="700"),
        "colour": encode_dicom(rgb, "RGB"),
        "implicit": encode_dicom(grey, "MONOCHROME2", syntax=ImplicitVRLittleEndian, StudyDate="20200101"),
        "deflated": encode_dicom(grey, "MONOCHROME2", syntax=DeflatedExplicitVRLittleEndian),
    }


ARTIFACT = "tflite-fp32"
"""Of the small bundle in tests/vectors, whose gate knows `grey` and refuses `board`."""


def grey(seed: int = 1) -> np.ndarray:
    """Like what the gate of the small bundle was fitted on: `drawn` of scripts/vectors/generated.py."""
    i = np.arange(130 * 140 * 3, dtype=np.uint64) + np.uint64(seed)
    grain = ((i * np.uint64(2654435761) % np.uint64(2**32)) >> np.uint64(26)).reshape(130, 140, 3)[:, :, 1]
    x, y = np.abs(np.arange(140) - 70) * 32 // 140, np.abs(np.arange(130) - 65) * 32 // 130
    plane = grain + (3 if seed % 2 else 1) * (x[None, :] + y[:, None]).astype(np.uint64)
    return np.repeat(plane.astype(np.uint8)[:, :, None], 3, axis=2)


def board() -> np.ndarray:
    """Far from anything that the gate knows."""
    return np.repeat((np.indices((130, 140)).sum(axis=0) % 2 * 255).astype(np.uint8)[:, :, None], 3, axis=2)
