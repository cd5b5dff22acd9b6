"""Frames of a DICOM data set as 8-bit RGB, with one mapping of grey values and colours for all frames of a file.

The mapping comes from the header (modality and VOI transforms, PS3.3 C.11.1 and C.11.2; palettes, C.7.9). A frame
therefore looks the same in a loop and alone, and 8-bit data with an identity window or rescale stay unchanged. For
values of more than 8 bits without a window the header gives no range; it is measured on frames of the file.
"""

from __future__ import annotations

import io
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sonoedge.edge_runtime.decode_limits import DECODE_ERRORS
from sonoedge.edge_runtime.errors import ImageError
from sonoedge.edge_runtime.types import UInt8Image

GDCM = "gdcm"
MEASURED_FRAMES = 16
"""If the header gives no range, at most this many frames, spread over the file, are decoded to measure it."""
_RLE_SEGMENTS = 15


class Frames:
    """Decodes frames of an opened pydicom data set.

    Args:
        dataset: with PixelData.
        count: number of frames.
    """

    def __init__(self, dataset: Any, count: int) -> None:
        self._dataset, self._count = dataset, count
        self._photometric = str(dataset.PhotometricInterpretation)

    def __getitem__(self, index: int) -> UInt8Image:
        """One frame, index from 0: uint8 (height, width, 3), RGB. Raises what pydicom and its decoders raise."""
        stored = self._stored(index)
        if self._photometric == "PALETTE COLOR":
            return self._palette[stored.view(f"u{stored.itemsize}")]
        if stored.ndim == 3:
            return stored if stored.dtype == np.uint8 else _to_uint8(stored, *self._range)
        if stored.itemsize <= 2:
            grey = self._greys(stored.dtype)[stored.view(f"u{stored.itemsize}")]
        else:
            grey = self._shade(stored)
        return np.repeat(grey[:, :, None], 3, axis=2)

    def _stored(self, index: int) -> NDArray[Any]:
        """The stored values: (height, width) integers, or (height, width, 3) RGB."""
        from pydicom import pixels

        plugin = decoder(self._dataset)
        if plugin in {"pillow", "pydicom"}:
            _check_encoded(self._dataset, index, self._count, plugin)
        return pixels.pixel_array(self._dataset, index=index, decoding_plugin=plugin)

    @cached_property
    def _palette(self) -> UInt8Image:
        """Table from every index to RGB: uint8 (256 or 65536, 3)."""
        from pydicom import pixels

        colours = pixels.apply_color_lut(_all_values(self._stored_type), self._dataset)[0, :, :3]
        # The standard's palettes are 16 bits wide, but some files store 8 bits in 16.
        return colours.astype(np.uint8) if colours.max() < 256 else (colours >> 8).astype(np.uint8)

    @cached_property
    def _stored_type(self) -> np.dtype[Any]:
        kind = "i" if int(self._dataset.get("PixelRepresentation") or 0) else "u"
        return np.dtype(f"{kind}{max(1, int(self._dataset.BitsAllocated) // 8)}")

    def _greys(self, kind: np.dtype[Any]) -> UInt8Image:
        """Table from every stored value, read as unsigned, to grey: uint8 (256 or 65536,)."""
        if kind not in self._tables:
            self._tables[kind] = self._shade(_all_values(kind))[0]
        return self._tables[kind]

    @cached_property
    def _tables(self) -> dict[np.dtype[Any], UInt8Image]:
        return {}

    def _shade(self, stored: NDArray[Any]) -> UInt8Image:
        """Stored values to grey: uint8, 0 black to 255 white."""
        from pydicom import pixels

        values = pixels.apply_modality_lut(stored, self._dataset)
        if self._dataset.get("VOILUTSequence"):
            grey = _to_uint8(pixels.apply_voi(values, self._dataset), 0.0, self._voi_top)
        elif (window := _window(self._dataset)) is not None:
            grey = np.rint(255.0 * _windowed(values.astype(np.float64), *window)).astype(np.uint8)
        else:
            grey = _to_uint8(values, *self._range)
        return 255 - grey if self._photometric == "MONOCHROME1" else grey

    @cached_property
    def _voi_top(self) -> float:
        item = self._dataset.VOILUTSequence[0]
        return _top(item)

    @cached_property
    def _range(self) -> tuple[float, float]:
        """The values of black and white, after the modality transform."""
        dataset = self._dataset
        if dataset.get("ModalityLUTSequence"):
            return 0.0, _top(dataset.ModalityLUTSequence[0])
        bits = int(dataset.BitsStored)
        if bits > 8:
            return self._measured()
        low, high = (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) if self._signed else (0.0, 2.0**bits - 1)
        slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
        if slope is not None and intercept is not None and int(dataset.SamplesPerPixel) == 1:
            low, high = sorted((low * float(slope) + float(intercept), high * float(slope) + float(intercept)))
        return low, high

    @property
    def _signed(self) -> bool:
        return self._stored_type.kind == "i"

    def _measured(self) -> tuple[float, float]:
        """Lowest and highest value of frames spread over the file; undecodable frames are left out."""
        from pydicom import pixels

        ends: list[float] = []
        problem: Exception | None = None
        chosen = np.unique(np.linspace(0, self._count - 1, min(self._count, MEASURED_FRAMES)).astype(int))
        for index in chosen:
            try:
                values = self._stored(int(index))
                if values.ndim == 2:
                    values = pixels.apply_modality_lut(values, self._dataset)
                ends += [float(values.min()), float(values.max())]
            except (*DECODE_ERRORS, ImageError) as error:
                problem = error
        if not ends and problem is not None:
            raise problem
        return min(ends), max(ends)


def decoder(dataset: Any) -> str:
    """The pydicom plugin for this transfer syntax; otherwise pydicom would take any that is installed.

    Empty for native data, which need no plugin.
    """
    from pydicom import uid

    syntax = str(dataset.file_meta.TransferSyntaxUID)
    if syntax in {uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEG2000, uid.JPEG2000Lossless}:
        return "pillow"
    if syntax in {uid.JPEGLossless, uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.JPEGLSNearLossless}:
        return GDCM
    return "pydicom" if syntax == uid.RLELossless else ""


def _check_encoded(dataset: Any, index: int, count: int, plugin: str) -> None:
    """`ImageError` if a compressed frame is larger than the header says: a few bytes can decode to millions."""
    from pydicom import encaps

    frame = encaps.get_frame(dataset.PixelData, index, number_of_frames=count)
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    if plugin == "pillow":
        with Image.open(io.BytesIO(frame), formats=("JPEG", "JPEG2000")) as image:
            larger = image.size != (columns, rows)
    else:
        size = rows * columns * int(dataset.SamplesPerPixel) * max(1, int(dataset.BitsAllocated) // 8)
        larger = _rle_length(frame, size + _RLE_SEGMENTS) > size + _RLE_SEGMENTS
    if larger:
        raise ImageError("The image is a DICOM file whose compressed frames are not of the size in its header.")


def _rle_length(frame: bytes, limit: int) -> int:
    """The number of bytes to which an RLE frame (PS3.5 annex G) decodes; counting ends above ``limit``."""
    offsets = np.frombuffer(frame[:64], "<u4") if len(frame) >= 64 else np.zeros(1, np.uint32)
    starts = [int(offset) for offset in offsets[1 : 1 + min(int(offsets[0]), _RLE_SEGMENTS)]]
    total = 0
    for start, end in zip(starts, [*starts[1:], len(frame)], strict=True):
        position, end = start, min(end, len(frame))
        while position < end and total <= limit:
            control = frame[position]
            if control < 128:
                total, position = total + control + 1, position + control + 2
            elif control > 128:
                total, position = total + 257 - control, position + 2
            else:
                position += 1
    return total


def _all_values(kind: np.dtype[Any]) -> NDArray[Any]:
    """Every value of an 8- or 16-bit type, ordered as if unsigned: (1, 256) or (1, 65536)."""
    if kind.itemsize > 2:
        raise ValueError("a table of 32-bit values")
    return np.arange(1 << 8 * kind.itemsize, dtype=f"u{kind.itemsize}").view(kind)[None]


def _top(item: Any) -> float:
    """The highest value that a lookup table can give; some files store 8 bits in a table that claims 16."""
    entries = item.LUTData
    highest = int(np.frombuffer(entries, "<u2").max()) if isinstance(entries, bytes) else max(map(int, entries))
    return 255.0 if highest < 256 else 2.0 ** int(item.LUTDescriptor[2]) - 1


def _window(dataset: Any) -> tuple[float, float, str] | None:
    """Centre, width and function of the first window; None if there is none, or an empty one."""
    found = []
    for keyword in ("WindowCenter", "WindowWidth"):
        value = dataset.get(keyword)
        if value is None or value == "":
            return None
        found.append(float(value if np.isscalar(value) or not hasattr(value, "__len__") else value[0]))
    return found[0], found[1], str(dataset.get("VOILUTFunction") or "LINEAR").upper()


def _windowed(values: NDArray[np.float64], centre: float, width: float, function: str) -> NDArray[np.float64]:
    """Map values to the range from 0 (black) to 1 (white): PS3.3 C.11.2.1.2 and C.11.2.1.3."""
    if function == "LINEAR":
        centre, width = centre - 0.5, width - 1.0
    if width < 0 or (width == 0 and function != "LINEAR"):
        raise ValueError("a window without a width")
    if function == "SIGMOID":
        return 1.0 / (1.0 + np.exp(np.clip(-4.0 * (values - centre) / width, -700.0, 700.0)))
    if function not in {"LINEAR", "LINEAR_EXACT"}:
        raise ValueError("an unknown kind of window")
    if width == 0:
        return (values > centre).astype(np.float64)
    return np.clip((values - centre) / width + 0.5, 0.0, 1.0)


def _to_uint8(values: NDArray[Any], low: float, high: float) -> UInt8Image:
    """Map ``low`` to 0 and ``high`` to 255; values outside are clipped."""
    if values.dtype == np.uint8 and (low, high) == (0.0, 255.0):
        return values
    if high <= low:
        return np.zeros(values.shape, np.uint8)
    return np.rint(np.clip((values.astype(np.float64) - low) * (255.0 / (high - low)), 0.0, 255.0)).astype(np.uint8)
