"""The fields of a JSON object: exactly those that are expected, each of its type."""

from __future__ import annotations

from typing import Any

from sonoedge.edge_runtime.errors import BundleError


def record(body: Any, where: str, **types: Any) -> dict[str, Any]:
    """The fields of a JSON object: exactly those of ``types``, each of its type (a bool is no number).

    Raises:
        BundleError: ``body`` is no object, or a key is unknown, missing or of a wrong type; ``where`` names it.
    """
    if not isinstance(body, dict):
        raise BundleError(f"{where} must be a JSON object. Received: {type(body).__name__}.")
    if unknown := sorted(set(body) - set(types)):
        raise BundleError(f"{where} has unknown keys: {', '.join(unknown)}.")
    if missing := sorted(set(types) - set(body)):
        raise BundleError(f"{where} lacks: {', '.join(missing)}.")
    for key, kind in types.items():
        if not isinstance(body[key], kind) or isinstance(body[key], bool):
            raise BundleError(f"{where}.{key} has the wrong type: {type(body[key]).__name__}.")
    return dict(body)
