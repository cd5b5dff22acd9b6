"""The routes: page, JSON API, live frames."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp

from sonoedge.edge_runtime.bundle.contract import GATE_FILE
from sonoedge.edge_runtime.decode_limits import MAX_FRAMES
from sonoedge.edge_runtime.device.monitor import drift_samples
from sonoedge.edge_runtime.errors import FrameNeededError, ImageError, MissingExtraError, ModelError
from sonoedge.edge_runtime.model.assess import MAX_VIEWS
from sonoedge.edge_runtime.serve.access import COOKIE, Guard
from sonoedge.edge_runtime.serve.admission import Admission, Busy
from sonoedge.edge_runtime.serve.live import Live
from sonoedge.edge_runtime.serve.metrics import Metrics
from sonoedge.edge_runtime.serve.openapi import description
from sonoedge.edge_runtime.serve.station import AnswerOptions, Station
from sonoedge.edge_runtime.serve.uploads import MAX_UPLOAD, READ_SECONDS, read_image_bytes

ASSETS = Path(__file__).with_name("assets")
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
    ".wasm": "application/wasm",
}


@dataclass(frozen=True)
class Settings:
    """How the server behaves; the defaults suit a small board.

    Attributes:
        token: clients must present it; None on a loopback address.
        public_url: address at which a reverse proxy offers this server; it needs a token.
        max_upload: bytes of an upload, at most.
        read_seconds: time for a client to send its image.
        waiting: number of requests that may wait in line.
        litert_js: folder with LiteRT.js for offline mode (``index.js``, ``wasm-utils.js``, ``wasm/``); None for no
            offline mode.
    """

    token: str | None = None
    public_url: str | None = None
    max_upload: int = MAX_UPLOAD
    read_seconds: float = READ_SECONDS
    waiting: int = 256
    litert_js: Path | None = None


def create_app(
    station: Station, settings: Settings, *, failed: Callable[[BaseException], None] | None = None
) -> ASGIApp:
    """The ASGI application. It opens the station in the background, so that the page answers at once.

    Args:
        station: not yet opened.
        settings: see `Settings`.
        failed: called with an error that occurs while the station opens; None raises it.
    """
    return _Application(station, settings, failed).asgi


class _Application:
    def __init__(
        self, station: Station, settings: Settings, failed: Callable[[BaseException], None] | None
    ) -> None:
        self.station, self.settings, self._failed = station, settings, failed
        self.metrics = Metrics()
        self.admission = Admission(2 * station.workers + 2, settings.waiting)
        self.ready = asyncio.Event()
        self.files = _page_files(settings.litert_js)
        self.live = Live(self.station, self.metrics, self.ready)
        starlette = Starlette(
            routes=[
                Route("/healthz", self._health),
                Route("/metrics", self._metrics),
                Route("/openapi.json", self._openapi),
                Route("/v1/session", self._session, methods=["POST"]),
                Route("/v1/bundle", self._bundle),
                Route("/v1/predict", self._predict, methods=["POST"]),
                Route("/v1/explain", self._explain, methods=["POST"]),
                Route("/bundle/{path:path}", self._bundle_file),
                WebSocketRoute("/v1/live", self.live.endpoint),
                *(Route(f"/{name}", self._page) for name in self.files),
            ],
            lifespan=self._lifespan,
            exception_handlers={
                HTTPException: _http_error,
                # The guard logs the place of the error; the client learns no details.
                Exception: lambda _request, _error: _error_json(500, "Internal error.", {}),
                Busy: lambda _request, _error: _error_json(
                    503, "Too many requests are waiting. Try again.", {"retry-after": "2"}
                ),
            },
        )
        self.guard = Guard(starlette, token=settings.token, public_url=settings.public_url)
        self.asgi: ASGIApp = self.guard

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        opening = asyncio.create_task(self._open())
        try:
            yield
        finally:
            await opening
            await asyncio.to_thread(self.station.close)

    async def _open(self) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(self.station.executor, self.station.open)
        except Exception as error:
            if self._failed is None:
                raise
            self._failed(error)
        else:
            self.ready.set()

    async def _page(self, request: Request) -> Response:
        file = self.files[request.url.path.lstrip("/")]
        # The browser must always ask again: after an update it must not run half of the old page.
        headers = {"etag": file.tag, "cache-control": "no-cache"}
        if request.headers.get("if-none-match") == file.tag:
            return Response(status_code=304, headers=headers)
        body = file.body
        if file.gzipped:
            headers["vary"] = "accept-encoding"
            if "gzip" in request.headers.get("accept-encoding", ""):
                headers["content-encoding"] = "gzip"
            else:
                body = await asyncio.to_thread(gzip.decompress, body)
        return Response(body, media_type=file.kind, headers=headers)

    async def _health(self, _request: Request) -> Response:
        ready = self.ready.is_set()
        return JSONResponse({"status": "ready" if ready else "starting"}, 200 if ready else 503)

    async def _metrics(self, _request: Request) -> Response:
        gauges = {
            "ready": float(self.ready.is_set()),
            "requests_present": float(self.admission.present),
            "live_streams": float(self.live.streams),
        }
        text = self.metrics.text(gauges)
        if self.ready.is_set() and self.station.drifts:
            found = {name: drift.to_json() for name, drift in self.station.drifts.items()}
            text += "\n".join([*drift_samples(found), ""])
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    async def _openapi(self, _request: Request) -> Response:
        return JSONResponse(description(token=self.settings.token is not None))

    async def _session(self, request: Request) -> Response:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > 4096:
                raise HTTPException(413, "The token is too long.")
        try:
            token = json.loads(body, parse_constant=_no_constant)["token"].encode()
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise HTTPException(400, 'Send JSON: {"token": "…"}.') from error
        if refusal := self.guard.refusal_of(token, request.client):
            return refusal
        # A proxy may end TLS: then the browser's origin tells that the connection is secure.
        secure = request.url.scheme == "https" or request.headers.get("origin", "").startswith("https:")
        response = Response(status_code=204)
        response.set_cookie(COOKIE, self.guard.session, httponly=True, samesite="strict", secure=secure)
        return response

    async def _bundle(self, _request: Request) -> Response:
        await self.ready.wait()
        return JSONResponse({**self.station.describe(), "offline": "litert/index.js" in self.files})

    async def _bundle_file(self, request: Request) -> Response:
        """Files for the browser: the TensorFlow Lite files that bundle.json names, and the gate."""
        await self.ready.wait()
        bundle, path = self.station.bundle, request.path_params["path"]
        allowed = {name for a in bundle.artifacts if a.runtime == "tflite" for name in (a.backbone, a.head)}
        if (bundle.path / GATE_FILE).is_file():
            allowed.add(GATE_FILE)
        if path not in allowed:
            raise HTTPException(404, "No such file of the bundle.")
        return FileResponse(bundle.path / path, media_type="application/octet-stream")

    async def _predict(self, request: Request) -> Response:
        return await self._answer(request, _wanted(request, explain=False))

    async def _explain(self, request: Request) -> Response:
        return await self._answer(request, _wanted(request, explain=True))

    async def _answer(self, request: Request, wanted: AnswerOptions) -> Response:
        start = perf_counter()
        async with self.admission.turn():
            data = await read_image_bytes(
                request, limit=self.settings.max_upload, seconds=self.settings.read_seconds
            )
            await self.ready.wait()
            loop = asyncio.get_running_loop()
            try:
                body = await loop.run_in_executor(self.station.executor, self.station.answer, data, wanted)
            except FrameNeededError as error:
                text = f"The file holds {error.frames} frames. Name one of them: frame=1 to {error.frames}."
                return _error_json(422, text, {}, frames=error.frames)
            except ImageError as error:
                self.metrics.add("images_unreadable_total")
                # Leave out the decoder's own words, which can quote the file.
                text = str(error).partition(": ")[0].rstrip(".") + "."
                raise HTTPException(413 if "At most" in text or "at most" in str(error) else 422, text) from error
            except MissingExtraError as error:
                raise HTTPException(415, "This server was installed without the DICOM extra.") from error
            except ModelError as error:
                raise HTTPException(422, str(error)) from error
            except MemoryError as error:
                raise HTTPException(413, "The image needs more memory than there is.") from error
        self.metrics.answered(body["artifact"], body["verdict"], perf_counter() - start)
        return JSONResponse(body)


def _wanted(request: Request, *, explain: bool) -> AnswerOptions:
    query = request.query_params
    if unknown := set(query) - {"views", "crop", "preview", "frame"}:
        raise HTTPException(400, f"Unknown parameters: {len(unknown)}. Known: views, crop, preview, frame.")
    if query.get("crop", "none") not in {"none", "auto"} or query.get("preview", "0") not in {"0", "1"}:
        raise HTTPException(400, "crop is none or auto; preview is 0 or 1.")
    return AnswerOptions(
        explain=explain,
        views=_number(query.get("views", "1"), "views", MAX_VIEWS),
        crop=query.get("crop") == "auto",
        preview=query.get("preview") == "1",
        frame=_number(query["frame"], "frame", MAX_FRAMES) if "frame" in query else None,
    )


def _number(text: str, name: str, highest: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(highest)) and 1 <= int(text) <= highest):
        raise HTTPException(400, f"{name} is a number from 1 to {highest}.")
    return int(text)


@dataclass(frozen=True)
class _PageFile:
    """``kind`` is the content type, ``tag`` the entity tag; ``gzipped`` says whether the body is compressed."""

    body: bytes
    kind: str
    tag: str
    gzipped: bool


def _page_files(litert_js: Path | None) -> dict[str, _PageFile]:
    """All files of the page by path, read once; ``x.wasm.gz`` is served as ``x.wasm``."""
    files: dict[str, _PageFile] = {}
    roots = [(ASSETS, "")] + ([(litert_js, "litert/")] if litert_js else [])
    for root, prefix in roots:
        for path in sorted(root.rglob("*")):
            gzipped = path.suffix == ".gz"
            name = path.with_suffix("") if gzipped else path
            if path.is_file() and name.suffix in _TYPES:
                body = path.read_bytes()
                tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
                files[prefix + name.relative_to(root).as_posix()] = _PageFile(
                    body, _TYPES[name.suffix], tag, gzipped
                )
    files[""] = files["index.html"]
    return files


def _http_error(_request: Request, error: Exception) -> Response | Awaitable[Response]:
    assert isinstance(error, HTTPException)
    # The framework's own messages ("Not Found") have no full stop.
    return _error_json(error.status_code, error.detail.rstrip(".") + ".", dict(error.headers or {}))


def _error_json(status: int, text: str, headers: dict[str, str], **more: int) -> JSONResponse:
    return JSONResponse({"error": text, **more}, status, headers={"cache-control": "no-store", **headers})


def _no_constant(name: str) -> Any:
    raise ValueError(name)
