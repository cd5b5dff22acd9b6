"""The outermost layer of the server by itself, without a model behind it: who gets through."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from starlette.datastructures import Address
from starlette.responses import PlainTextResponse

from sonoedge.edge_runtime.serve.access import Guard
from sonoedge.edge_runtime.serve.throttle import WRONG

TOKEN = "a-long-token"
HERE = "http://127.0.0.1:8000"


def status(headers: dict[str, str], *, token: str | None = None) -> int:
    """Of a request for the bundle."""

    async def ask() -> int:
        transport = httpx.ASGITransport(app=Guard(PlainTextResponse("inside"), token=token))
        async with httpx.AsyncClient(transport=transport, base_url=HERE) as client:
            return (await client.get("/v1/bundle", headers=headers)).status_code

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, 200),
        ({"host": "localhost:8000"}, 200),
        ({"host": "evil.example"}, 421),
        ({"origin": HERE}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
    ],
)
def test_on_loopback_the_own_page_only(headers: dict[str, str], expected: int) -> None:
    assert status(headers) == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"authorization": f"Bearer {TOKEN}"}, 200),
        ({}, 401),
        ({"authorization": "Bearer "}, 401),
        ({"authorization": f"Bearer {TOKEN}x"}, 401),
        ({"authorization": f"Bearer {TOKEN}", "origin": "http://evil.example"}, 403),
    ],
)
def test_elsewhere_the_right_token_only(headers: dict[str, str], expected: int) -> None:
    assert status(headers, token=TOKEN) == expected


def test_guesses_have_to_wait() -> None:
    """After a few wrong tokens not even the right one is compared; from elsewhere it is."""
    guard = Guard(PlainTextResponse("inside"), token=TOKEN)
    guesser, friend = Address("10.0.0.1", 1), Address("10.0.0.2", 1)
    answers = [guard.refusal_of(b"guess", guesser) for _ in range(WRONG)]
    assert [answer and answer.status_code for answer in answers] == [401] * WRONG
    late = guard.refusal_of(TOKEN.encode(), guesser)
    assert late is not None and late.status_code == 429
    assert guard.refusal_of(TOKEN.encode(), friend) is None
