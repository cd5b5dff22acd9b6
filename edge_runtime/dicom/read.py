"""DICOM in: ultrasound stills and cine loops as RGB frames.

`DicomImage` gives pixels, frame times and the scan region. Patient attributes stay in its ``dataset``, for DICOM
objects that refer to the image. Error messages never quote a value of the header.
"""

from __future__ import annotations

import io
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from sonoedge.edge_runtime.decode_limits import DECODE_ERRORS, MAX_FRAMES, MAX_PIXELS, chosen_frame
from sonoedge.edge_runtime.dicom.child import decode_isolated
from sonoedge.edge_runtime.dicom.pixels import GDCM, Frames, decoder
from sonoedge.edge_runtime.errors import ImageError, MissingExtraError
from sonoedge.edge_runtime.types import Region, UInt8Image

_DEFLATED = b"1.2.840.10008.1.2.1.99"
_PLAIN = b"1.2.840.10008.1.2.1\0\0\0"
_HEADER_ROOM = 16 << 20  # bytes of a deflated file beyond an RGB image of the largest size
_UNDEFINED = 0xFFFFFFFF  # the length of encapsulated pixel data
_TISSUE = 1  # PS3.3 C.8.5.5.1.2: region data type "Tissue"


@dataclass(frozen=True)
class DicomImage:
    """An opened DICOM image object.

    Attributes:
        frames: number of frames.
        frame_ms: milliseconds from one frame to the next; None for a still, or if the file does not say.
        region: the first tissue region of the Sequence of Ultrasound Regions (PS3.3 C.8.5.5), if any.
        spacing_mm: millimetres per pixel (vertical, horizontal), if the file says.
    """

    frames: int
    frame_ms: float | None
    region: Region | None
    spacing_mm: tuple[float, float] | None
    _dataset: Any
    _pixels: Frames
    _name: str
    _isolated: bytes | None

    @property
    def dataset(self) -> Any:
        """The pydicom data set, patient data included; for DICOM objects that refer to this one."""
        return self._dataset

    @property
    def isolated(self) -> bool:
        """Whether frames are decoded in a child process."""
        return self._isolated is not None

    def frame(self, index: int) -> UInt8Image:
        """Decode one frame, index from 0: uint8 (height, width, 3), RGB.

        Raises:
            ImageError: the frame cannot be decoded.
        """
        if self._isolated is not None:
            return next(self._by_child(index, index + 1))
        return _guarded(lambda: self._pixels[index], self._name)

    def __iter__(self) -> Iterator[UInt8Image]:
        if self._isolated is not None:
            return self._by_child(0, self.frames)
        return (self.frame(index) for index in range(self.frames))

    def _by_child(self, start: int, stop: int) -> Iterator[UInt8Image]:
        assert self._isolated is not None
        shape = (int(self._dataset.Rows), int(self._dataset.Columns))
        return decode_isolated(self._isolated, start, stop, shape, self._name)


def decode_dicom(
    data: bytes, name: str = "image", *, max_pixels: int = MAX_PIXELS, frame: int | None = None
) -> UInt8Image:
    """Decode a DICOM still, or frame ``frame`` (from 1) of a loop: uint8 (height, width, 3), RGB.

    Raises:
        ImageError, MissingExtraError: see `read_dicom`.
        FrameNeededError: see `chosen_frame`.
    """
    opened = read_dicom(data, name, max_pixels=max_pixels)
    return opened.frame(chosen_frame(name, opened.frames, frame))


def read_dicom(
    data: bytes, name: str = "image", *, max_pixels: int = MAX_PIXELS, isolate: bool = True
) -> DicomImage:
    """Open a DICOM file without decoding a frame yet.

    Photometric interpretations: MONOCHROME1 and 2 (modality and VOI transforms applied), RGB, YBR_*, PALETTE
    COLOR. Transfer syntaxes: pydicom decodes native, deflated and RLE data, Pillow JPEG and JPEG 2000, GDCM
    lossless JPEG and JPEG-LS in a child process (`edge_runtime.dicom.child`).

    Args:
        data: the bytes of the file.
        name: of the file, for messages.
        max_pixels: of one frame.
        isolate: False decodes everything in this process; only the child process uses it.

    Raises:
        ImageError: the file is no readable image object, or too large.
        MissingExtraError: pydicom is not installed.
    """
    try:
        import pydicom
    except ImportError as error:
        raise MissingExtraError("pydicom", "dicom") from error

    def parse() -> DicomImage:
        dataset = pydicom.dcmread(_inflated(data, 3 * max_pixels + _HEADER_ROOM, name))
        if dataset.file_meta.get("MediaStorageSOPClassUID") == pydicom.uid.MediaStorageDirectoryStorage:
            raise ImageError(f"{name} is the table of contents of a disc, not an image. Give the folder instead.")
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
            _pixels=Frames(dataset, frames),
            _name=name,
            _isolated=data if isolate and decoder(dataset) == GDCM else None,
        )

    return _guarded(parse, name)


def _inflated(data: bytes, limit: int, name: str) -> io.BytesIO:
    """The file to read. A deflated one (PS3.5 A.5) is inflated here, in pieces: pydicom has no limit.

    Raises:
        ImageError: the file inflates to more than ``limit`` bytes, or breaks off.
    """
    position, deflated = 132, 0
    while data[position : position + 2] == b"\x02\x00":  # the file meta group, explicit little endian
        is_long = data[position + 4 : position + 6] == b"OB"
        value = position + (12 if is_long else 8)
        end = value + int.from_bytes(data[value - (4 if is_long else 2) : value], "little")
        if data[position + 2 : position + 4] == b"\x10\x00" and data[value:end].rstrip(b"\0 ") == _DEFLATED:
            deflated = value
        position = end
    if not deflated:
        return io.BytesIO(data)
    file = io.BytesIO()
    # The same header with a transfer syntax that is not deflated; a UID may be padded with zeros.
    file.write(data[:deflated] + _PLAIN + data[deflated + len(_DEFLATED) : position])
    stream, rest = zlib.decompressobj(-zlib.MAX_WBITS), data[position:]
    while rest and not stream.eof:
        file.write(stream.decompress(rest, 1 << 20))
        if file.tell() > limit:
            raise ImageError(f"{name} is a deflated DICOM file of more than {limit >> 20} MiB: convert it first.")
        rest = stream.unconsumed_tail
    if not stream.eof:
        raise ImageError(f"{name} is a DICOM file that breaks off in its deflated data.")
    file.seek(0)
    return file


def _guarded(call: Any, name: str) -> Any:
    """Call pydicom; every error on a damaged file becomes an `ImageError` that quotes no value of the file."""
    from pydicom.errors import BytesLengthException, InvalidDicomError

    try:
        with warnings.catch_warnings():
            # pydicom warns about every odd value of a header; here a file gives an image or an error.
            warnings.simplefilter("ignore")
            return call()
    except ImageError:
        raise
    except (*DECODE_ERRORS, Image.DecompressionBombError, BytesLengthException, InvalidDicomError) as error:
        # Leave the error's message out: it can quote the header, and the header names the patient.
        raise ImageError(f"{name} is a DICOM file without a readable image ({type(error).__name__}).") from error


def _frame_ms(dataset: Any) -> float | None:
    """Milliseconds a frame: Frame Time (0018,1063), else from the frames a second of Cine Rate (0018,0040) or of
    Recommended Display Frame Rate (0008,2144)."""
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
    """Pixel Spacing, else the physical deltas of the first region if their unit is the centimetre (code 3)."""
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
