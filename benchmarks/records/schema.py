"""The JSON Schema of a record: a frozen dataclass that `edge_runtime.typed_json.read_record` reads."""

from __future__ import annotations

import types
from dataclasses import is_dataclass
from typing import Any, Union, get_args, get_origin

from sonoedge.edge_runtime.typed_json import SCALARS, hints


def json_schema(cls: type[Any]) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a dataclass; the first paragraph of its docstring is the description."""
    definitions: dict[str, Any] = {}
    root = _schema(cls, definitions)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **root, "$defs": definitions}


def _schema(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    if kind is Any:
        return {}
    if is_dataclass(kind) and isinstance(kind, type):
        if kind.__name__ not in definitions:
            definitions[kind.__name__] = {}
            field_types = hints(kind)
            definitions[kind.__name__] = {
                "description": " ".join((kind.__doc__ or "").split("\n\n")[0].split()),
                "type": "object",
                "properties": {name: _schema(hint, definitions) for name, hint in field_types.items()},
                "required": list(field_types),
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
    return {"type": SCALARS[kind]}
