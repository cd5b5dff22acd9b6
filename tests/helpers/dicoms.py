"""DICOM files made for tests."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import encaps, uid
from pydicom.dataset import FileDataset, FileMetaDataset

HEIGHT, WIDTH = 48, 64
SECRET = "Doe^Jane"


def picture(shift: int = 0) -> np.ndarray:
    """Smooth RGB, different in every channel: uint8 (48, 64, 3)."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.stack([3 * x + shift, 4 * y, 2 * (x + y)], axis=2).clip(0, 255).astype(np.uint8)


def dicom(
    frames: list[np.ndarray], photometric: str, *, syntax: str = uid.ExplicitVRLittleEndian, **attributes: Any
) -> FileDataset:
    """An ultrasound (multi-frame) image with a patient, native pixels."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    many = len(frames) > 1
    meta.MediaStorageSOPClassUID = uid.UltrasoundMultiFrameImageStorage if many else uid.UltrasoundImageStorage
    meta.MediaStorageSOPInstanceUID = uid.generate_uid()
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.PatientName, data.PatientID, data.PatientBirthDate = SECRET, "ID-QX4711", "19700101"
    data.StudyInstanceUID, data.StudyDate = uid.generate_uid(), "20260102"
    stack = np.stack(frames)
    data.Rows, data.Columns = stack.shape[1:3]
    data.SamplesPerPixel = 3 if stack.ndim == 4 else 1
    if stack.ndim == 4:
        data.PlanarConfiguration = 0
    data.PhotometricInterpretation = photometric
    data.BitsAllocated = data.BitsStored = 8 * stack.dtype.itemsize
    data.HighBit, data.PixelRepresentation = data.BitsAllocated - 1, 0
    if many:
        data.NumberOfFrames = len(frames)
    for name, value in attributes.items():
        setattr(data, name, value)
    data.PixelData = stack.tobytes()
    data["PixelData"].VR = "OB" if stack.dtype == np.uint8 else "OW"
    return data


def saved(data: FileDataset) -> bytes:
    buffer = io.BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def compressed(frames: list[np.ndarray], syntax: str, photometric: str, code: Any) -> bytes:
    """Frames encoded one by one by ``code``."""
    data = dicom(frames, photometric, syntax=syntax)
    data.PixelData = encaps.encapsulate([code(frame) for frame in frames])
    data["PixelData"].is_undefined_length = True
    return saved(data)


def by_pillow(kind: str, **options: Any) -> Any:
    def code(frame: np.ndarray) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, kind, **options)
        return buffer.getvalue()

    return code


LOSSLESS = [uid.RLELossless, uid.JPEG2000Lossless, uid.JPEGLSLossless, uid.JPEGLosslessSV1]


def lossless(syntax: str) -> bytes:
    """The RGB picture in a lossless syntax, by pydicom's own encoder, Pillow, or GDCM."""
    if syntax == uid.RLELossless:
        data = dicom([picture()], "RGB")
        data.compress(syntax, encoding_plugin="pydicom")
        return saved(data)
    if syntax == uid.JPEG2000Lossless:
        return compressed([picture()], syntax, "RGB", by_pillow("JPEG2000", irreversible=False, mct=0, no_jp2=True))
    return gdcm_transcoded(saved(dicom([picture()], "RGB")), syntax)


def gdcm_transcoded(data: bytes, syntax: str) -> bytes:
    gdcm = pytest.importorskip("gdcm")
    import tempfile
    from pathlib import Path

    kinds = {
        uid.JPEGLSLossless: gdcm.TransferSyntax.JPEGLSLossless,
        uid.JPEGLosslessSV1: gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    }
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "a.dcm", Path(folder) / "b.dcm"
        before.write_bytes(data)
        reader = gdcm.ImageReader()
        reader.SetFileName(str(before))
        assert reader.Read()
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(kinds[syntax]))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer = gdcm.ImageWriter()
        writer.SetFileName(str(after))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
        return after.read_bytes()
