"""Progress bars by tqdm; on a device without tqdm, one line for each step."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable
from typing import Any


def bars(enabled: bool) -> Callable[[Iterable[Any], str], Iterable[Any]]:
    """A function that wraps an iterable and shows its progress; if not ``enabled``, it shows nothing."""

    def bar(items: Iterable[Any], description: str) -> Iterable[Any]:
        if not enabled:
            return items
        try:
            from tqdm import tqdm
        except ImportError:
            count = f" ({len(items)})" if isinstance(items, Collection) else ""
            print(f"{description}{count} …", file=sys.stderr, flush=True)
            return items
        wrapped: Iterable[Any] = tqdm(items, desc=description)
        return wrapped

    return bar
