"""DICOM in: ultrasound stills and cine loops as RGB frames. DICOM out: a Secondary Capture with the overlay.

Only pixels, frame times and scan regions leave `read_dicom`; patient attributes stay inside `secondary_capture`,
which copies them from the source object to the result unless ``deidentify`` is set. Error messages never quote
a value of the header.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_runtime.bundle import INTENDED_USE
from edge_runtime.dicom_child import decode_isolated
from edge_runtime.errors import ImageError, MissingExtraError
from edge_runtime.image import DECODE_ERRORS, MAX_PIXELS, UInt8Image, stretch_to_uint8
from edge_runtime.region import Region

MAX_FRAMES = 10_000
_COPIED = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate", "StudyTime",
    "StudyID", "AccessionNumber", "ReferringPhysicianName", "StudyDescription",
)  # fmt: skip
_GDCM = "gdcm"
_UNDEFINED = 0xFFFFFFFF  # the length of encapsulated pixel data
_TISSUE = 1  # PS3.3 C.8.5.5.1.2: region data type "Tissue"


@dataclass(frozen=True)
class DicomImage:
    """An opened DICOM image object.

    Attributes:
        frames: how many.
        frame_ms: milliseconds from one frame to the next; None for a still or where the file does not say.
        region: the first tissue region of the Sequence of Ultrasound Regions (PS3.3 C.8.5.5), if any.
        spacing_mm: millimetres per pixel (vertical, horizontal), if the file says.
    """

    frames: int
    frame_ms: float | None
    region: Region | None
    spacing_mm: tuple[float, float] | None
    _dataset: Any
    _name: str
    _isolated: bytes | None

    @property
    def dataset(self) -> Any:
        """The pydicom data set, patient data included: for objects that refer to this one."""
        return self._dataset

    @property
    def isolated(self) -> bool:
        """Whether frames are decoded in a child process."""
        return self._isolated is not None

    def frame(self, index: int) -> UInt8Image:
        """Decode one frame: uint8 (height, width, 3), RGB. `ImageError` where that fails."""
        if self._isolated is not None:
            return next(decode_isolated(self._isolated, index, index + 1, self._name))
        return _guarded(lambda: _frame(self._dataset, index), self._name)

    def __iter__(self) -> Iterator[UInt8Image]:
        if self._isolated is not None:
            return decode_isolated(self._isolated, 0, self.frames, self._name)
        return (self.frame(index) for index in range(self.frames))


def decode_dicom(data: bytes, name: str = "image", *, max_pixels: int = MAX_PIXELS) -> UInt8Image:
    """First frame of a DICOM file; see `read_dicom`."""
    return read_dicom(data, name, max_pixels=max_pixels).frame(0)


def read_dicom(
    data: bytes, name: str = "image", *, max_pixels: int = MAX_PIXELS, isolate: bool = True
) -> DicomImage:
    """Open a DICOM file without decoding a frame yet.

    Photometric interpretations MONOCHROME1 and 2 (modality and VOI transforms applied), RGB, YBR_*, PALETTE
    COLOR; native, deflated and RLE syntaxes by pydicom, JPEG and JPEG 2000 by Pillow, lossless JPEG and JPEG-LS
    by GDCM in a child process (see `edge_runtime.dicom_child`; ``isolate=False`` is for that child).

    Raises:
        ImageError: not a readable image object, or too large.
        MissingExtraError: pydicom is not installed.
    """
    try:
        import pydicom
    except ImportError as error:
        raise MissingExtraError("pydicom", "dicom") from error

    def parse() -> DicomImage:
        dataset = pydicom.dcmread(io.BytesIO(data))
        rows, columns = int(dataset.Rows), int(dataset.Columns)
        frames = int(dataset.get("NumberOfFrames") or 1)
        if rows * columns > max_pixels:
            raise ImageError(f"{name} has {columns}x{rows} pixels. At most {max_pixels:,} are accepted.")
        if not 1 <= frames <= MAX_FRAMES:
            raise ImageError(f"{name} has {frames} frames. 1 to {MAX_FRAMES:,} are accepted.")
        if "PixelData" not in dataset:
            raise ImageError(f"{name} is a DICOM file without an image.")
        pixels = dataset.get_item("PixelData")
        if getattr(pixels, "length", _UNDEFINED) not in {_UNDEFINED, len(pixels.value or b"")}:
            raise ImageError(f"{name} is a DICOM file that breaks off in its pixel data.")
        return DicomImage(
            frames=frames,
            frame_ms=_frame_ms(dataset) if frames > 1 else None,
            region=_region(dataset, rows, columns),
            spacing_mm=_spacing(dataset),
            _dataset=dataset,
            _name=name,
            _isolated=data if isolate and _decoder(dataset) == _GDCM else None,
        )

    return _guarded(parse, name)


def secondary_capture(
    pictures: Sequence[UInt8Image],
    source: DicomImage | None,
    *,
    text: str,
    deidentify: bool,
    frame_ms: float | None = None,
) -> bytes:
    """A DICOM Secondary Capture of overlays (PS3.3 A.8), one picture or a multi-frame true colour object.

    Args:
        pictures: uint8 (height, width, 3), all of one size. What is burned into them stays there: crop first.
        source: its patient and study attributes are copied, so that the result files itself under the study.
        text: the result in words, written to Image Comments.
        deidentify: copy nothing, take new study identifiers, and say so (PS3.3 C.7.1.1).
        frame_ms: from one picture to the next; None: as in the source, else 40 ms.
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
    # prefix=None: random UUID-derived identifiers; nothing of this machine is in them.
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
            out.SpecificCharacterSet = source._dataset.get("SpecificCharacterSet") or "ISO_IR 192"
            for keyword in _COPIED:
                if source._dataset.get(keyword) is not None:
                    setattr(out, keyword, source._dataset.get(keyword))
            _reference(out, source._dataset)
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
    """Source Image Sequence: which object the overlay was derived from."""
    from pydicom.dataset import Dataset

    if dataset.get("SOPClassUID") and dataset.get("SOPInstanceUID"):
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
        out.SourceImageSequence = [item]


def _frame(dataset: Any, index: int) -> UInt8Image:
    """One frame (PS3.3 C.7.6.3): photometric interpretation, modality and VOI transforms applied."""
    from pydicom import pixels

    frame = pixels.pixel_array(dataset, index=index, decoding_plugin=_decoder(dataset))
    photometric = str(dataset.PhotometricInterpretation)
    if photometric == "PALETTE COLOR":
        frame = pixels.apply_color_lut(frame, dataset)
        if frame.dtype == np.uint16:
            # The standard's palettes are 16 bits wide; stretching each frame on its own would make a loop flicker.
            frame = (frame if frame.max() < 256 else frame >> 8).astype(np.uint8)
    if frame.ndim == 3:
        return frame if frame.dtype == np.uint8 else stretch_to_uint8(frame)
    windowed = pixels.apply_voi_lut(pixels.apply_modality_lut(frame, dataset), dataset)
    grey = windowed if windowed.dtype == np.uint8 else stretch_to_uint8(windowed)
    if photometric == "MONOCHROME1":
        grey = 255 - grey
    return np.repeat(grey[:, :, None], 3, axis=2)


def _decoder(dataset: Any) -> str:
    """Which of pydicom's plugins decodes this transfer syntax; left alone it would take whatever is installed."""
    from pydicom import uid

    syntax = str(dataset.file_meta.TransferSyntaxUID)
    if syntax in {uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEG2000, uid.JPEG2000Lossless}:
        return "pillow"
    if syntax in {uid.JPEGLossless, uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.JPEGLSNearLossless}:
        return _GDCM
    return "pydicom" if syntax == uid.RLELossless else ""


def _guarded(call: Any, name: str) -> Any:
    """Run a reader of pydicom; whatever it raises on a damaged file becomes an `ImageError` without its values."""
    from pydicom import errors

    try:
        with warnings.catch_warnings():
            # pydicom warns about every odd value of a header; here a file either gives an image or an error.
            warnings.simplefilter("ignore")
            return call()
    except ImageError:
        raise
    except (*DECODE_ERRORS, errors.BytesLengthException, errors.InvalidDicomError) as error:
        # Not the message: it can quote the header, and the header names the patient.
        raise ImageError(f"{name} is a DICOM file without a readable image ({type(error).__name__}).") from error


def _frame_ms(dataset: Any) -> float | None:
    """Frame Time (0018,1063), or from Cine Rate (0018,0040) in frames a second."""
    try:
        if value := dataset.get("FrameTime"):
            interval = float(value)
        elif value := dataset.get("CineRate") or dataset.get("RecommendedDisplayFrameRate"):
            interval = 1000.0 / float(value)
        else:
            return None
    except DECODE_ERRORS:
        return None
    return interval if 0.1 <= interval <= 60_000.0 else None


def _region(dataset: Any, rows: int, columns: int) -> Region | None:
    for item in dataset.get("SequenceOfUltrasoundRegions") or []:
        try:
            if int(item.RegionDataType) != _TISSUE:
                continue
            # The corners are pixels inside the region (PS3.3 C.8.5.5.1.1).
            region = Region(
                int(item.RegionLocationMinX0),
                int(item.RegionLocationMinY0),
                int(item.RegionLocationMaxX1) + 1,
                int(item.RegionLocationMaxY1) + 1,
            )
        except DECODE_ERRORS:
            continue
        if 0 <= region.left < region.right <= columns and 0 <= region.top < region.bottom <= rows:
            return region
    return None


def _spacing(dataset: Any) -> tuple[float, float] | None:
    """Pixel Spacing, or the region's physical deltas where its unit is the centimetre (code 3)."""
    try:
        if spacing := dataset.get("PixelSpacing"):
            pair = (float(spacing[0]), float(spacing[1]))
        else:
            item = (dataset.get("SequenceOfUltrasoundRegions") or [None])[0]
            if item is None or (int(item.PhysicalUnitsXDirection), int(item.PhysicalUnitsYDirection)) != (3, 3):
                return None
            pair = (10.0 * abs(float(item.PhysicalDeltaY)), 10.0 * abs(float(item.PhysicalDeltaX)))
    except DECODE_ERRORS:
        return None
    return pair if min(pair) > 0 and np.isfinite(pair).all() else None
