"""JSON files that say what they are: objects with ``kind`` and ``schema_version``, which are checked first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sonoedge.edge_runtime.errors import DataError


def read_typed_json(path: Path, what: str, kinds: tuple[str, ...], version: int, remedy: str) -> dict[str, Any]:
    """Read a JSON object of an accepted kind.

    Args:
        path: UTF-8 JSON.
        what: the file in words, for errors, such as ``device profile``.
        kinds: accepted values of ``kind``.
        version: the only ``schema_version`` accepted.
        remedy: a sentence for files of another version.

    Raises:
        DataError: the file is missing, not JSON, or of another kind or schema version.
    """
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"No such {what}: {path}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is not a {what}: {error}") from error
    if not isinstance(body, dict) or body.get("kind") not in kinds:
        wanted = f"not {kinds[0]}" if len(kinds) == 1 else f"neither {' nor '.join(kinds)}"
        raise DataError(f"{path} is not a {what}: its kind is {wanted}.")
    if body.get("schema_version") != version:
        raise DataError(
            f"{path} has schema_version {body.get('schema_version')!r}; this version reads {version}. {remedy}"
        )
    return body
