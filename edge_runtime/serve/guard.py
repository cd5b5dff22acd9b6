"""The outermost layer: who may ask, what headers go out, and that no error carries a detail to the outside."""

from __future__ import annotations

import hmac
import ipaddress
import logging
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

COOKIE = "sonoedge_token"
LOG = logging.getLogger("sonoedge.serve")
# 'wasm-unsafe-eval' lets WebAssembly compile, and nothing else: offline mode runs the model in the page.
_CSP = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' blob: data:; "
    "media-src blob:; connect-src 'self'; worker-src 'self'; manifest-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _CSP,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=(), payment=(), usb=()",
}
_OPEN_PREFIXES = ("/v1/", "/bundle/", "/metrics")  # what a token protects; the page itself holds no secret
_LOGIN = "/v1/session"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server bound to ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Guard:
    """ASGI middleware.

    Args:
        app: the application.
        token: what clients must send as ``Authorization: Bearer`` or as the session cookie; None on loopback.
    """

    def __init__(self, app: ASGIApp, *, token: str | None) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        if refusal := self._refusal(scope):
            await self._refuse(refusal, scope, receive, send)
            return
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] in {"http.response.start", "websocket.http.response.start"}:
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except Exception as error:  # noqa: BLE001 - the last line: no bug shows more than this
            LOG.error("internal error: %s at %s", type(error).__name__, _place(error))
            if scope["type"] == "http" and not started:
                await _json(500, "Internal error.")(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self._token is None and not is_loopback(_host_name(host)):
            # Another name for this address: DNS rebinding lets a web site talk to local servers that way.
            return _json(421, "This server answers on 127.0.0.1 and localhost only.")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return _json(403, "Requests from other sites are refused.")
        if headers.get("sec-fetch-site") in {"cross-site", "same-site"} and scope["path"].startswith(
            _OPEN_PREFIXES
        ):
            return _json(403, "Requests from other sites are refused.")
        if self._token is None or scope["path"] == _LOGIN or not scope["path"].startswith(_OPEN_PREFIXES):
            return None
        if not self.accepts(_bearer(headers)) and not self.accepts(_cookie(headers)):
            response = _json(401, "A token is required.")
            response.headers["www-authenticate"] = "Bearer"
            return response
        return None

    def accepts(self, token: str) -> bool:
        """Compare in constant time."""
        return self._token is not None and hmac.compare_digest(token.encode(), self._token.encode())

    @staticmethod
    async def _refuse(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await WebSocketClose(code=1008)(scope, receive, send)
            return
        for name, value in _HEADERS.items():
            response.headers[name] = value
        await response(scope, receive, send)


def _json(status: int, text: str) -> JSONResponse:
    return JSONResponse({"error": text}, status, headers={"cache-control": "no-store"})


def _host_name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _bearer(headers: Headers) -> str:
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


def _cookie(headers: Headers) -> str:
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return morsel.value if morsel else ""


def _place(error: BaseException) -> str:
    """The file name and line where it was raised: code, never data."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_name}:{trace.tb_lineno}" if trace else "?"
