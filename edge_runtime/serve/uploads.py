"""The bytes of an image out of a request: one field of a form, or the body itself; in memory, within limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

MAX_UPLOAD = 32 * 1024 * 1024
READ_SECONDS = 20.0
FIELD = "image"
_RAW_TYPES = ("image/", "application/octet-stream", "application/dicom")


class _InMemoryParser(MultiPartParser):
    """Never spools to a temporary file: no image may touch the disk."""

    spool_max_size = MAX_UPLOAD + 1


async def read_image_bytes(request: Request, *, limit: int = MAX_UPLOAD, seconds: float = READ_SECONDS) -> bytes:
    """The uploaded image.

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
    parser = _InMemoryParser(request.headers, _limited(request, limit), max_files=1, max_fields=8)
    try:
        form = await parser.parse()
        field = form.get(FIELD)
        if not isinstance(field, UploadFile):
            raise HTTPException(422, f"The form has no complete file field {FIELD!r}.")
        return _present(await field.read())
    except MultiPartException as error:
        raise HTTPException(400, "The form is malformed or has more than one file.") from error
    except (KeyError, ValueError, LookupError, AssertionError) as error:
        raise HTTPException(400, "The form is malformed.") from error
    finally:
        # Also those of a form that broke off, which the parser leaves to the garbage collector.
        for file in parser._files_to_close_on_error:
            file.close()


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
