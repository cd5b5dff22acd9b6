"""Uploads that are no picture, and what the answer to them must be."""

from __future__ import annotations

import io
import re
import struct
import tempfile
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from tests.helpers.places import ROOT
from tests.helpers.stations import GOOD, encode, frame

SECRET = "Doe^Jane"


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    width: int, height: int, data: bytes, *, colour: int = 2, crc_error: bool = False, extra: bytes = b""
) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0))
    if crc_error:
        header = header[:-1] + bytes([header[-1] ^ 1])
    return b"\x89PNG\r\n\x1a\n" + header + extra + data + chunk(b"IEND", b"")


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(10_000_000))
    return buffer.getvalue()


def tiff(*entries: tuple[int, int, int, int], next_ifd: int = 0) -> bytes:
    body = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(entries))
    return body + b"".join(struct.pack("<HHII", *entry) for entry in entries) + struct.pack("<I", next_ifd)


def bodies() -> dict[str, bytes]:
    """Bodies that are no acceptable image, by name."""
    rng = np.random.default_rng(5)
    jpeg, bmp, tif = encode(frame(), "JPEG"), encode(frame(), "BMP"), encode(frame(), "TIFF")
    idat = chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return {
        "empty": b"",
        "one byte": b"\0",
        "random": rng.bytes(5000),
        "text": b"no picture",
        "html": b"<html><script>1",
        "json": b'{"image": 1}',
        "json nan": b'{"image": NaN}',
        "svg": b"<svg xmlns='x' onload='alert(1)'/>",
        "pdf": b"%PDF-1.7\n%%EOF",
        "zip bomb": zipped(),
        "gzip": b"\x1f\x8b\x08" + bytes(50),
        "elf": b"\x7fELF" + bytes(99),
        "pickle": b"\x80\x04\x95" + bytes(40),
        "gif": encode(frame(), "GIF"),
        "webp": b"RIFF\0\0\0\0WEBPVP8 " + bytes(30),
        "ico": b"\0\0\1\0\1\0" + bytes(30),
        "psd": b"8BPS\0\1" + bytes(40),
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n",
        "mp4": b"\0\0\0\x18ftypmp42" + bytes(40),
        "xbm": b"#define a_width 9\n",
        "ppm": b"P6 9 9 255\n" + bytes(243),
        "zip then png": zipped() + GOOD,
        "html then png": b"<html>" + GOOD,
        "png signature": GOOD[:8],
        "png header only": GOOD[:40],
        "png half": GOOD[: len(GOOD) // 2],
        "png width 0": png(0, 10, idat),
        "png 30000 square": png(30000, 30000, idat),
        "png width 2^31": png(2**31 - 1, 1, idat),
        "png bad checksum": png(10, 10, idat, crc_error=True),
        "png garbage data": png(10, 10, chunk(b"IDAT", b"garbage" * 9)),
        "png no data": png(10, 10, b""),
        "png no palette": png(40, 40, idat, colour=3),
        "png colour 7": png(40, 40, idat, colour=7),
        "png bomb": png(20000, 20000, chunk(b"IDAT", zlib.compress(bytes(3_000_000), 9))),
        "png text bomb": png(40, 40, idat, extra=chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(80_000_000)))),
        "png 26 megapixel": encode(np.zeros((5200, 5001), np.uint8)),
        "png 1x1": encode(frame(1, 1)),
        "png 1x4000": encode(frame(1, 4000)),
        "jpeg start": jpeg[:2],
        "jpeg header": jpeg[:20],
        "jpeg half": jpeg[: len(jpeg) // 2],
        "jpeg 65000 square": re.sub(b"(\xff\xc0...)....", b"\\1\xfd\xe8\xfd\xe8", jpeg, count=1, flags=re.S),
        "jpeg size 0": re.sub(b"(\xff\xc0...)....", b"\\1\0\0\0\0", jpeg, count=1, flags=re.S),
        "jpeg no scan": jpeg[: jpeg.index(b"\xff\xda")],
        "jpeg noise": jpeg[:30] + rng.bytes(500),
        "bmp short": bmp[:30],
        "bmp half": bmp[: len(bmp) // 2],
        "bmp huge": bmp[:18] + struct.pack("<ii", 90000, 90000) + bmp[26:],
        "bmp size 0": bmp[:18] + struct.pack("<ii", 0, 0) + bmp[26:],
        "bmp bits 77": bmp[:28] + b"\x4d\0" + bmp[30:],
        "bmp offset": bmp[:10] + struct.pack("<I", 2**31) + bmp[14:],
        "tiff header": tif[:8],
        "tiff empty": tiff(),
        "tiff loop": tiff((256, 3, 1, 9), next_ifd=8),
        "tiff outside": b"II*\0" + struct.pack("<I", 2**31),
        "tiff huge": tiff((256, 4, 1, 70000), (257, 4, 1, 70000), (258, 3, 1, 8), (262, 3, 1, 1)),
        "tiff compression 99": tiff(
            (256, 3, 1, 99), (257, 3, 1, 99), (259, 3, 1, 99), (262, 3, 1, 1), (273, 4, 1, 8), (279, 4, 1, 9)
        ),
        "tiff no strips": tiff((256, 3, 1, 99), (257, 3, 1, 99), (258, 3, 1, 8), (262, 3, 1, 1)),
        "tiff half": tif[: len(tif) // 3],
        **dicom_bodies(rng),
    }


def dicom_bodies(rng: np.random.Generator) -> dict[str, bytes]:
    from pydicom import encaps, uid
    from pydicom.dataset import FileDataset, FileMetaDataset

    def build(change: Any = None, syntax: str = uid.ExplicitVRLittleEndian) -> bytes:
        meta = FileMetaDataset()
        meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = syntax, uid.UltrasoundImageStorage
        meta.MediaStorageSOPInstanceUID = "1.2.3"
        data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        data.PatientName, data.PatientID = SECRET, "ID-4711"
        data.Rows, data.Columns, data.SamplesPerPixel, data.PlanarConfiguration = 40, 40, 3, 0
        data.PhotometricInterpretation = "RGB"
        data.BitsAllocated = data.BitsStored = 8
        data.HighBit, data.PixelRepresentation = 7, 0
        data.PixelData = bytes(4800)
        data["PixelData"].VR = "OB"
        buffer = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if change:
                change(data)
            data.save_as(buffer, enforce_file_format=True)
        return buffer.getvalue()

    def setting(**values: Any) -> bytes:
        return build(lambda data: [setattr(data, name, value) for name, value in values.items()])

    def garbage(data: Any) -> None:
        data.PixelData = encaps.encapsulate([rng.bytes(400)])
        data["PixelData"].is_undefined_length = True

    good = build()
    lengths = good.replace(struct.pack("<I", 4800), struct.pack("<I", 2**31 - 2))
    # Sequences in sequences, 5,000 deep, none of them closed: (0008,2112) SQ and an item, of undefined length.
    level = b"\x08\0\x12\x21SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff"
    deep = good.replace(b"\x10\0\x10\0PN", level * 5000 + b"\x10\0\x10\0PN")
    name = good.replace(b"PN" + struct.pack("<H", 8), b"PN" + struct.pack("<H", 60000))
    return {
        "dicom preamble": bytes(128) + b"DICM",
        "dicom noise": bytes(128) + b"DICM" + rng.bytes(900),
        "dicom no pixels": build(lambda data: data.pop("PixelData")),
        "dicom few pixels": setting(PixelData=bytes(100)),
        "dicom huge": setting(Rows=60000, Columns=60000),
        "dicom rows 0": setting(Rows=0),
        "dicom 7 bits": setting(BitsAllocated=7),
        "dicom 9 samples": setting(SamplesPerPixel=9),
        "dicom many frames": setting(NumberOfFrames=999_999),
        "dicom 500 frames": setting(NumberOfFrames=500),
        "dicom photometric": setting(PhotometricInterpretation=SECRET),
        "dicom palette": setting(PhotometricInterpretation="PALETTE COLOR", SamplesPerPixel=1),
        "dicom planes": setting(PlanarConfiguration=7),
        "dicom no photometric": build(lambda data: data.pop("PhotometricInterpretation")),
        "dicom no rows": build(lambda data: data.pop("Rows")),
        "dicom half": good[: len(good) // 2],
        "dicom wrong length": lengths,
        "dicom wrong name length": name,
        "dicom deep": deep,
        "dicom jpeg noise": build(garbage, uid.JPEGBaseline8Bit),
        "dicom jpeg 2000 noise": build(garbage, uid.JPEG2000),
        "dicom rle noise": build(garbage, uid.RLELossless),
        "dicom lossless noise": build(garbage, uid.JPEGLosslessSV1),
        "dicom jpeg-ls noise": build(garbage, uid.JPEGLSLossless),
        "dicom hevc": build(garbage, uid.HEVCMP51),
    }


PLACES = "|".join(re.escape(str(place)) for place in (ROOT, Path.home(), tempfile.gettempdir()))
LEAK = re.compile(rf"Traceback|File \"|\.py|{PLACES}|/usr/|/etc/|Jane|4711|0x[0-9a-f]{{6}}")


def refused(response: httpx.Response) -> None:
    """A clear 4xx: one sentence in JSON, no detail of the machine or the patient."""
    assert 400 <= response.status_code < 500, (response.status_code, response.text)
    body = response.json()
    assert set(body) - {"frames"} == {"error"}
    assert body["error"].endswith((".", "…"))
    assert len(body["error"]) < 200
    assert not LEAK.search(response.text), response.text


HEAD = (
    b"POST /v1/predict HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n"
    b"content-type: application/octet-stream\r\n"
)
