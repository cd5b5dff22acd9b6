"""Strict JSON for frozen dataclasses: a dataclass describes how to read, how to write, and the JSON Schema.

Reading refuses unknown keys, missing keys and wrong types, and says where they are. Supported types: str, int,
float, bool, ``X | None``, tuples of one type, string-keyed dicts of one type, ``Any``, and dataclasses of these.
"""

from __future__ import annotations

import math
import types
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from sonoedge.edge_runtime.errors import DataError

T = TypeVar("T")
_SCALARS: dict[type, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}


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


def json_schema(cls: type[Any]) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a dataclass; the first paragraph of its docstring is the description."""
    definitions: dict[str, Any] = {}
    root = _schema(cls, definitions)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **root, "$defs": definitions}


@cache
def _hints(cls: type[Any]) -> dict[str, Any]:
    return get_type_hints(cls)


def _read(kind: Any, body: Any, where: str) -> Any:
    if kind is Any:
        return body
    if is_dataclass(kind) and isinstance(kind, type):
        if not isinstance(body, dict):
            raise DataError(f"{where} must be a JSON object. Received: {type(body).__name__}.")
        names = _hints(kind)
        if unknown := sorted(set(body) - set(names)):
            raise DataError(f"{where} has unknown keys: {', '.join(unknown)}.")
        if missing := sorted(set(names) - set(body)):
            raise DataError(f"{where} lacks: {', '.join(missing)}.")
        return kind(**{name: _read(hint, body[name], f"{where}.{name}") for name, hint in names.items()})
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
        raise DataError(f"{where} must be of type {_SCALARS[kind]}. Received: {type(body).__name__}.")
    if isinstance(body, float) and not math.isfinite(body):
        raise DataError(f"{where} must be finite. Received: {body}.")
    return body


def _schema(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    if kind is Any:
        return {}
    if is_dataclass(kind) and isinstance(kind, type):
        if kind.__name__ not in definitions:
            definitions[kind.__name__] = {}
            hints = _hints(kind)
            definitions[kind.__name__] = {
                "description": " ".join((kind.__doc__ or "").split("\n\n")[0].split()),
                "type": "object",
                "properties": {name: _schema(hint, definitions) for name, hint in hints.items()},
                "required": list(hints),
                "additionalProperties": False,
            }
        return {"$ref": f"#/$defs/{kind.__name__}"}
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        inner = _schema(next(a for a in arguments if a is not type(None)), definitions)
        return {"anyOf": [inner, {"type": "null"}]}
    if origin is tuple:
        return {"type": "array", "items": _schema(arguments[0], definitions)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema(arguments[1], definitions)}
    return {"type": _SCALARS[kind]}
