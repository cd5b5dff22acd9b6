"""Slows guessing down: after a few wrong tokens an address must wait."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Callable
from time import monotonic

WRONG = 5
SECONDS = 60.0
_ADDRESSES = 4096


class Throttle:
    """After `WRONG` wrong tokens within `SECONDS`, an address must wait until this time is over.

    A right token does not clear the count: behind a proxy that hides addresses, a user's requests would clear it
    for a guesser.

    Args:
        clock: returns seconds that only rise.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._seen: dict[str, tuple[float, int]] = {}

    def wait(self, address: str) -> int:
        """Whole seconds until a token from ``address`` is checked again; 0 for now."""
        start, count = self._seen.get(_network(address), (0.0, 0))
        left = start + SECONDS - self._clock()
        return math.ceil(left) if count >= WRONG and left > 0 else 0

    def wrong(self, address: str) -> None:
        """Count a wrong token from ``address``."""
        network, now = _network(address), self._clock()
        start, count = self._seen.pop(network, (now, 0))
        if now >= start + SECONDS:
            start, count = now, 0
        while len(self._seen) >= _ADDRESSES:
            del self._seen[next(iter(self._seen))]
        self._seen[network] = (start, count + 1)


def _network(address: str) -> str:
    """The key of an address. An IPv6 customer gets 2^64 addresses: they count as one."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return str(ipaddress.ip_network((parsed, 64), strict=False)) if parsed.version == 6 else str(parsed)
