"""JSON files that say what they are, and the strict reader of what they hold.

`read_typed_json` checks ``kind`` and ``schema_version`` first. `read_record` builds a frozen dataclass, which says
how to read and how to write: unknown keys, missing keys and wrong types are refused, and the error says where they
are. Supported types: str, int, float, bool, ``X | None``, tuples of one type, string-keyed dicts of one type,
``Any``, and dataclasses of these. A key whose field has a default may be left out.
"""

from __future__ import annotations

import json
import math
import types
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from sonoedge.edge_runtime.errors import DataError

T = TypeVar("T")
SCALARS: dict[type, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}
"""The names of JSON for the plain types."""


def read_typed_json(path: Path, what: str, kinds: tuple[str, ...], version: int, remedy: str) -> dict[str, Any]:
    """Read a JSON object of an accepted kind.

    Args:
        path: UTF-8 JSON.
        what: the file in words, for errors, such as ``device profile``.
        kinds: accepted values of ``kind``.
        version: the only ``schema_version`` accepted.
        remedy: a sentence for files of an earlier version: how to make them again.

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
    found = body.get("schema_version")
    if found != version:
        later = isinstance(found, int) and found > version
        what_to_do = "Update sonoedge." if later else remedy
        raise DataError(f"{path} has schema_version {found!r}; this version reads {version}. {what_to_do}")
    return body


def read_record(cls: type[T], body: Any, where: str) -> T:
    """A dataclass from decoded JSON.

    Raises:
        DataError: the body does not fit the dataclass; the message says what is wrong and where, for example
            ``run.candidates[2].timing lacks: samples_ms.``
    """
    result = _read(cls, body, where)
    assert isinstance(result, cls)
    return result


def to_plain(value: Any) -> Any:
    """A dataclass tree as plain JSON types; NaN and infinity become null."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


@cache
def hints(cls: type[Any]) -> dict[str, Any]:
    """The types of a dataclass's fields by name."""
    return get_type_hints(cls)


def _read(kind: Any, body: Any, where: str) -> Any:
    if kind is Any:
        return body
    if is_dataclass(kind) and isinstance(kind, type):
        if not isinstance(body, dict):
            raise DataError(f"{where} must be a JSON object. Received: {type(body).__name__}.")
        names = hints(kind)
        if unknown := sorted(set(body) - set(names)):
            raise DataError(
                f"{where} has unknown keys: {', '.join(_with_nearest(k, list(names)) for k in unknown)}."
            )
        optional = {f.name for f in fields(kind) if f.default is not MISSING or f.default_factory is not MISSING}
        if missing := sorted(set(names) - set(body) - optional):
            raise DataError(f"{where} lacks: {', '.join(missing)}.")
        return kind(**{key: _read(names[key], value, f"{where}.{key}") for key, value in body.items()})
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if body is None:
            return None
        return _read(next(a for a in arguments if a is not type(None)), body, where)
    if origin is tuple:
        if not isinstance(body, list):
            raise DataError(f"{where} must be a list. Received: {type(body).__name__}.")
        return tuple(_read(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(body))
    if origin is dict:
        if not isinstance(body, dict):
            raise DataError(f"{where} must be a JSON object. Received: {type(body).__name__}.")
        return {key: _read(arguments[1], item, f"{where}.{key}") for key, item in body.items()}
    if kind is float and isinstance(body, int) and not isinstance(body, bool):
        return float(body)
    if not isinstance(body, kind) or (isinstance(body, bool) and kind is not bool):
        raise DataError(f"{where} must be of type {SCALARS[kind]}. Received: {type(body).__name__}.")
    if isinstance(body, float) and not math.isfinite(body):
        raise DataError(f"{where} must be finite. Received: {body}.")
    return body


def _with_nearest(key: str, known: list[str]) -> str:
    near = get_close_matches(key, known, n=1)
    return f"{key} (is {near[0]} meant?)" if near else key
