"""Schema version 1 of bundle.json, read until SonoEdge 1.0: two classes, one threshold, float32 tensors."""

from __future__ import annotations

from typing import Any

from sonoedge.edge_runtime.bundle.contract import GATE_FILE, REASONS, SITE_VALUES
from sonoedge.edge_runtime.bundle.fields import record
from sonoedge.edge_runtime.errors import BundleError

_RENAMED = {"ladder": "candidates"}
"""Keys of an artifact's metrics."""


def as_schema_2(body: dict[str, Any], *, gate: bool) -> dict[str, Any]:
    """The same manifest in schema version 2, unchecked but for the keys of schema 1 that differ.

    Args:
        body: decoded JSON.
        gate: whether the bundle holds the file of a gate; schema 1 does not name it.

    Raises:
        BundleError: an unknown or missing key, or a wrong type.
    """
    plain = {key: value for key, value in body.items() if key != "cascade"}
    kinds = {"schema_version": int, "name": str, "labels": list, "positive_label": str, "input": dict}
    kinds |= {"branches": list, "artifacts": list, "provenance": dict, "intended_use": str}
    top = record(plain, "bundle.json", **kinds)
    return {
        **{key: value for key, value in top.items() if key != "positive_label"},
        "decision": {"rule": "threshold", "label": top["positive_label"]},
        "reasons": list(REASONS),
        "artifacts": [_artifact(item, f"artifacts[{i}]") for i, item in enumerate(top["artifacts"])],
        "gate": GATE_FILE if gate else None,
        "lesion_map": None,
        "site_overlay": list(SITE_VALUES),
        "cascade": body.get("cascade"),
    }


def _artifact(item: Any, where: str) -> Any:
    if not isinstance(item, dict):
        return item  # the reader of schema 2 says so
    added: dict[str, Any] = {"input_dtype": "float32", "output_dtype": "float32"}
    if unknown := sorted(added.keys() & item.keys()):
        raise BundleError(f"{where} has unknown keys: {', '.join(unknown)}.")
    metrics = item.get("metrics")
    if isinstance(metrics, dict):
        metrics = {_RENAMED.get(key, key): value for key, value in metrics.items()}
        added |= {"metrics": metrics}
    return {**item, **added}
