"""Read the bytes of an image from a request: one field of a form, or the body itself; in memory, within limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

MAX_UPLOAD = 32 * 1024 * 1024
READ_SECONDS = 20.0
FIELD = "image"
_RAW_TYPES = ("image/", "application/octet-stream", "application/dicom")


_MAX_PARTS = 9
_MAX_HEADERS = 16 * 1024
"""Limit of bytes for the headers of all parts together."""


class _Form:
    """Keeps the one file of a form in memory; the parser of the framework would write it to the disk."""

    def __init__(self, boundary: bytes) -> None:
        self.file: bytes | None = None
        self._parts = self._header_bytes = 0
        self._name, self._value, self._disposition = bytearray(), bytearray(), b""
        self._data: bytearray | None = None
        self._has_file = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._part_begin,
                "on_header_field": lambda data, start, end: self._header(self._name, data[start:end]),
                "on_header_value": lambda data, start, end: self._header(self._value, data[start:end]),
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._part_data,
                "on_part_end": self._part_end,
            },
        )

    def feed(self, chunk: bytes) -> None:
        """Parse the next bytes; raises ``FormParserError`` if the form is malformed or has more than one file."""
        self._parser.write(chunk)

    def _part_begin(self) -> None:
        self._parts += 1
        self._disposition = b""
        if self._parts > _MAX_PARTS:
            raise FormParserError("too many parts")

    def _header(self, kept: bytearray, data: bytes) -> None:
        self._header_bytes += len(data)
        if self._header_bytes > _MAX_HEADERS:
            raise FormParserError("headers too long")
        kept += data

    def _header_end(self) -> None:
        if bytes(self._name).lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._name.clear()
        self._value.clear()

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"name" not in options:
            raise FormParserError("a part without a name")
        self._data = None
        if b"filename" in options:
            if self._has_file:
                raise FormParserError("more than one file")
            self._has_file = True
            if options[b"name"] == FIELD.encode():
                self._data = bytearray()

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._data is not None:
            self._data += data[start:end]

    def _part_end(self) -> None:
        if self._data is not None:
            self.file, self._data = bytes(self._data), None


async def read_image_bytes(request: Request, *, limit: int = MAX_UPLOAD, seconds: float = READ_SECONDS) -> bytes:
    """The bytes of the uploaded image.

    Args:
        request: the request.
        limit: bytes, at most.
        seconds: time for the upload.

    Raises:
        HTTPException: 400 malformed form, 408 too slow, 413 too large, 415 other content types, 422 no image.
    """
    length = request.headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()):
        raise HTTPException(400, "Content-Length is not a number.")
    if int(length[:18]) > limit:
        raise _too_large(limit)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        async with asyncio.timeout(seconds):
            if kind == "multipart/form-data":
                return await _form(request, limit)
            if kind.startswith(_RAW_TYPES):
                return _present(b"".join([chunk async for chunk in _limited(request, limit)]))
    except TimeoutError as error:
        raise HTTPException(408, f"The upload took longer than {seconds:.0f} s.") from error
    except ClientDisconnect as error:
        raise HTTPException(400, "The upload was broken off.") from error
    raise HTTPException(415, f"Send multipart/form-data with a file field {FIELD!r}, or the image as the body.")


async def _form(request: Request, limit: int) -> bytes:
    try:
        _, options = parse_options_header(request.headers["content-type"])
        form = _Form(options[b"boundary"])
        async for chunk in _limited(request, limit):
            form.feed(chunk)
    except (FormParserError, LookupError, ValueError) as error:
        raise HTTPException(400, "The form is malformed or has more than one file.") from error
    if form.file is None:
        raise HTTPException(422, f"The form has no complete file field {FIELD!r}.")
    return _present(form.file)


async def _limited(request: Request, limit: int) -> AsyncGenerator[bytes, None]:
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        yield chunk


def _present(data: bytes) -> bytes:
    if not data:
        raise HTTPException(422, "The image is empty (0 bytes).")
    return data


def _too_large(limit: int) -> HTTPException:
    return HTTPException(413, f"The upload is too large: at most {limit // 2**20} MiB are accepted.")
