"""The outermost layer: decides who may ask, sets security headers, and keeps details of errors inside."""

from __future__ import annotations

import hmac
import ipaddress
import logging
import secrets
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Address, Headers, MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from sonoedge.edge_runtime.errors import UsageError
from sonoedge.edge_runtime.serve.throttle import Throttle

COOKIE = "sonoedge_token"
LOG = logging.getLogger("sonoedge.serve")
# 'wasm-unsafe-eval' only permits compiling WebAssembly: offline mode runs the model in the page.
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
_OPEN_PREFIXES = ("/v1/", "/bundle/", "/metrics")  # a token protects these; the page itself holds no secret
_LOGIN = "/v1/session"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server bound to ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def origin_of(url: str) -> str:
    """The origin of ``url`` as a browser writes it: scheme, name, and the port unless it is the scheme's default.

    Raises:
        UsageError: ``url`` is no http or https address with a host name.
    """
    try:
        parts = urlsplit(url)
        name, port = parts.hostname, parts.port
    except ValueError:
        name = port = None
    if not name or parts.scheme not in {"http", "https"} or parts.username is not None or parts.query:
        raise UsageError(f"--public-url is an address such as https://station.example. Received: {url!r}.")
    name = f"[{name}]" if ":" in name else name
    own = {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{name}" + (f":{port}" if port not in {None, own} else "")


class Guard:
    """ASGI middleware that checks hosts, origins and tokens.

    Args:
        app: the application.
        token: clients must send it as ``Authorization: Bearer``, or exchange it for the session cookie. None: no
            token is needed, and requests must name a loopback host.
        public_url: address at which a reverse proxy offers this server; requests from its page are allowed.
        throttle: counts wrong tokens.

    Attributes:
        session: value of the cookie; random for each process, so that it tells nothing about the token.

    Raises:
        UsageError: ``public_url`` is no address, or is given without a token.
    """

    def __init__(
        self, app: ASGIApp, *, token: str | None, public_url: str | None = None, throttle: Throttle | None = None
    ) -> None:
        self._app = app
        self._token = None if token is None else token.encode()
        self._origin = None if public_url is None else origin_of(public_url)
        if self._origin is not None and token is None:
            raise UsageError("A server behind a proxy has a token.")
        self._throttle = throttle or Throttle()
        self.session = secrets.token_urlsafe(32)

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
        except Exception as error:  # noqa: BLE001 - the last barrier: no bug may show more than this
            LOG.error("internal error: %s at %s", type(error).__name__, _place(error))
            if scope["type"] == "http" and not started:
                await _json(500, "Internal error.")(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "").lower()
        if self._token is None and not is_loopback(_host_name(host)):
            # Another name for this address: by DNS rebinding a web site can talk to local servers this way.
            return _json(421, "This server answers on 127.0.0.1 and localhost only. A proxy needs --public-url.")
        origin = headers.get("origin")
        if origin is not None and origin != self._origin and _netloc(origin) != host:
            return _json(403, "Requests from other sites are refused.")
        if headers.get("sec-fetch-site") in {"cross-site", "same-site"} and scope["path"].startswith(
            _OPEN_PREFIXES
        ):
            return _json(403, "Requests from other sites are refused.")
        if self._token is None or scope["path"] == _LOGIN or not scope["path"].startswith(_OPEN_PREFIXES):
            return None
        if hmac.compare_digest(_cookie(headers), self.session.encode()):
            return None
        client = scope.get("client")
        return self.refusal_of(_bearer(headers), Address(*client) if client else None)

    def refusal_of(self, token: bytes, client: Address | None) -> Response | None:
        """The response to a bad token: 401 if it is missing or wrong, 429 if it comes too soon after wrong ones.

        None for the right token.
        """
        address = client.host if client else ""
        if token:
            if wait := self._throttle.wait(address):
                # Do not compare the token: among many guesses at once, the right one would get another answer.
                response = _json(429, "Too many wrong tokens from this address. Try again later.")
                response.headers["retry-after"] = str(wait)
                return response
            if self._token is not None and hmac.compare_digest(token, self._token):
                return None
            self._throttle.wrong(address)
        response = _json(401, "Wrong token." if token else "A token is required.")
        response.headers["www-authenticate"] = "Bearer"
        return response

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


def _netloc(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None


def _bearer(headers: Headers) -> bytes:
    """The bytes of the token as sent: most clients send a token outside ASCII as UTF-8."""
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token.strip().encode("latin-1") if kind.lower() == "bearer" else b""


def _cookie(headers: Headers) -> bytes:
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return b""
    return morsel.value.encode() if morsel else b""


def _place(error: BaseException) -> str:
    """The function and line that raised the error: code, never data."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_name}:{trace.tb_lineno}" if trace else "?"
