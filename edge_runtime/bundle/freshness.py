"""When a bundle was made; a device does not go back to an older bundle.

A signature stays good for ever, even on a bundle with a fault that a newer bundle no longer has. bundle.json holds
the time of making (``provenance.created``, UTC), so the signature covers the time. A policy can name the earliest
time that the device accepts. It can also name a record file: there the device keeps the time of the newest bundle
that it has used, by the name of the bundle:

    {"busi": "2026-11-30T08:15:00Z"}
"""

from __future__ import annotations

import json
import os
import re
import time
from dataclasses import replace
from pathlib import Path

from sonoedge.edge_runtime.bundle.contract import Bundle
from sonoedge.edge_runtime.errors import TrustError
from sonoedge.edge_runtime.files import write_text_atomic

CREATED = "created"
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


def is_time(text: object) -> bool:
    """Whether ``text`` is a time like ``2026-11-30T08:15:00Z``, as in bundles; such texts sort by time."""
    return isinstance(text, str) and _TIME.fullmatch(text) is not None


def dated(bundle: Bundle) -> Bundle:
    """The bundle with the present time as its time of making, or ``SOURCE_DATE_EPOCH`` for reproducible builds."""
    seconds = os.environ.get("SOURCE_DATE_EPOCH", "")
    now = time.gmtime(int(seconds) if seconds.isdigit() else None)
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", now)
    return replace(bundle, provenance={**bundle.provenance, CREATED: created})


def created(bundle: Bundle) -> str:
    """When the bundle was made; empty if the bundle does not say."""
    found = bundle.provenance.get(CREATED)
    return str(found) if is_time(found) else ""


def check_not_older(bundle: Bundle, minimum: str, record: Path | None) -> None:
    """Refuse a bundle made before ``minimum``, or before the newest bundle of the same name in the record.

    Args:
        bundle: the bundle to check.
        minimum: earliest time accepted; empty for none.
        record: file with the newest times used; None for none.

    Raises:
        TrustError: the bundle is older or does not say when it was made, or the record cannot be read.
    """
    marks = [("the policy asks for one made at or after {}", minimum)] if minimum else []
    if record is not None:
        newest = _read(record).get(bundle.name, "")
        marks.append(("this device has used one made at {}" if newest else "the policy compares times", newest))
    made = created(bundle)
    for words, mark in marks:
        if not made:
            raise TrustError(f"{bundle.path} does not say when it was made; {words.format(mark)}. Export it again.")
        if made < mark:
            raise TrustError(f"{bundle.path} was made at {made}; {words.format(mark)}: it is out of date.")


def remember(bundle: Bundle, record: Path) -> None:
    """Record that this device uses the bundle, if the bundle is newer than the last one of the same name.

    Raises:
        TrustError: the record cannot be read or written; a device that forgets would go back to an older bundle.
    """
    marks = _read(record)
    if created(bundle) <= marks.get(bundle.name, ""):
        return
    try:
        write_text_atomic(record, json.dumps({**marks, bundle.name: created(bundle)}, indent=2) + "\n")
    except OSError as error:
        raise TrustError(f"The record of bundles {record} cannot be written: {error.strerror or error}.") from error


def _read(record: Path) -> dict[str, str]:
    """Name of a bundle -> newest time; empty if nothing was recorded yet."""
    try:
        body = json.loads(record.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise TrustError(f"The record of bundles {record} cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise TrustError(f"The record of bundles {record} is damaged: it is not JSON.") from error
    if not isinstance(body, dict) or not all(is_time(value) for value in body.values()):
        raise TrustError(f"The record of bundles {record} is damaged: it does not map names to times.")
    return body
