"""DICOM out: a Secondary Capture with the overlay.

Patient attributes are copied from the source object to the result unless ``deidentify`` is set.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from sonoedge.edge_runtime.dicom.read import DicomImage
from sonoedge.edge_runtime.errors import MissingExtraError
from sonoedge.edge_runtime.types import UInt8Image
from sonoedge.edge_runtime.words import INTENDED_USE

_COPIED = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate", "StudyTime",
    "StudyID", "AccessionNumber", "ReferringPhysicianName", "StudyDescription",
)  # fmt: skip


def secondary_capture(
    pictures: Sequence[UInt8Image],
    source: DicomImage | None,
    *,
    text: str,
    deidentify: bool,
    frame_ms: float | None = None,
) -> bytes:
    """A DICOM Secondary Capture of overlays (PS3.3 A.8) as file bytes: one picture, or several in true colour.

    Args:
        pictures: uint8 (height, width, 3), all of one size. Text that is burned into them stays: crop first.
        source: object whose patient and study attributes are copied, so that viewers show the result in its study;
            None copies nothing.
        text: the result in words, written to Image Comments.
        deidentify: copy nothing, take new study identifiers, and mark the object as deidentified (PS3.3 C.7.1.1).
        frame_ms: milliseconds from one picture to the next; None takes those of the source, else 40 ms.

    Raises:
        MissingExtraError: pydicom is not installed.
    """
    try:
        from pydicom.dataset import FileDataset, FileMetaDataset
        from pydicom.uid import (
            ExplicitVRLittleEndian,
            MultiFrameTrueColorSecondaryCaptureImageStorage,
            SecondaryCaptureImageStorage,
            generate_uid,
        )
    except ImportError as error:
        raise MissingExtraError("pydicom", "dicom") from error
    many = len(pictures) > 1
    stack = np.stack(pictures)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = (
        MultiFrameTrueColorSecondaryCaptureImageStorage if many else SecondaryCaptureImageStorage
    )
    # prefix=None makes identifiers from random UUIDs; they tell nothing about this machine.
    meta.MediaStorageSOPInstanceUID = generate_uid(prefix=None)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    out = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    out.SOPClassUID, out.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime",
                    "StudyID", "AccessionNumber", "ReferringPhysicianName"):  # fmt: skip
        setattr(out, keyword, None)  # type 2: present, empty
    out.StudyInstanceUID, out.SeriesInstanceUID = generate_uid(prefix=None), generate_uid(prefix=None)
    if source is not None and not deidentify:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            out.SpecificCharacterSet = source.dataset.get("SpecificCharacterSet") or "ISO_IR 192"
            for keyword in _COPIED:
                if source.dataset.get(keyword) is not None:
                    setattr(out, keyword, source.dataset.get(keyword))
            _reference(out, source.dataset)
    else:
        out.SpecificCharacterSet = "ISO_IR 192"
    if deidentify:
        out.PatientIdentityRemoved = "YES"
        out.DeidentificationMethod = "No source attribute copied; new identifiers"
    out.Modality, out.ConversionType, out.ImageType = "US", "WSD", ["DERIVED", "SECONDARY"]
    out.SeriesNumber, out.InstanceNumber = 9999, 1
    out.SeriesDescription = "SonoEdge overlay - research use only"
    out.DerivationDescription = f"Grad-CAM overlay. {INTENDED_USE}"
    out.ImageComments = text
    out.BurnedInAnnotation = "YES"
    out.Manufacturer = "SonoEdge"
    out.Rows, out.Columns = stack.shape[1:3]
    out.SamplesPerPixel, out.PhotometricInterpretation, out.PlanarConfiguration = 3, "RGB", 0
    out.BitsAllocated, out.BitsStored, out.HighBit, out.PixelRepresentation = 8, 8, 7, 0
    if many:
        out.NumberOfFrames = len(pictures)
        out.FrameIncrementPointer = 0x00181063
        out.FrameTime = f"{frame_ms or (source and source.frame_ms) or 40.0:.3f}"[:16]
    data = stack.tobytes()
    out.PixelData = data + b"\0" * (len(data) % 2)
    out["PixelData"].VR = "OB"
    buffer = io.BytesIO()
    out.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _reference(out: Any, dataset: Any) -> None:
    """Set Source Image Sequence: the object from which the overlay was derived."""
    from pydicom.dataset import Dataset

    if dataset.get("SOPClassUID") and dataset.get("SOPInstanceUID"):
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
        out.SourceImageSequence = [item]
