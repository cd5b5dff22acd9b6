"""Single figures in sentences: each is a function of one JSON file of docs/results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scripts.results.explanations import images
from scripts.results.tables import changed_of, interval, percent


def changed_out_of_fold(body: dict[str, Any]) -> str:
    """Decisions that `tflite-int8` changes of all images, each out of fold; ``body`` is decisions.json."""
    count = body["pooled"]["tflite-int8"]
    return f"{count['events']} of {count['images']}"


def changed_by_seeds(body: dict[str, Any]) -> str:
    """Decisions that `tflite-int8` changes on the test images of all seeds; ``body`` is decisions.json."""
    counts = [row["files"]["tflite-int8"]["changed"] for row in body["seeds"]]
    return f"{sum(c['events'] for c in counts)} of {sum(c['images'] for c in counts)}"


def changed_elsewhere(body: dict[str, Any]) -> str:
    """Decisions that `tflite-int8` changes on another source; ``body`` is decisions.json."""
    count = body["external"]["files"]["tflite-int8"]["changed"]
    return f"{count['events']} of {count['images']}"


def int8_share(body: dict[str, Any]) -> str:
    """Share of the multiply-adds of `tflite-int8` in int8; ``body`` is decisions.json."""
    return f"{100 * body['seeds'][0]['files']['tflite-int8']['int8_share']:.0f} %"


def _changed(name: str) -> Callable[[dict[str, Any]], str]:
    return lambda body: changed_of(body, _row(body, name))


def _times_faster(name: str, reference: str) -> Callable[[dict[str, Any]], str]:
    return lambda body: f"{_row(body, reference)['p50_ms'] / _row(body, name)['p50_ms']:.1f} times"


def _row(body: dict[str, Any], name: str) -> dict[str, Any]:
    return next(row for row in body["rows"] if row["name"] == name)


def _missing_groups(name: str) -> Callable[[dict[str, Any]], str]:
    return lambda body: next(str(row["groups_missing"]) for row in body["candidates"][name] if row.get("taken"))


def _export_seconds(body: dict[str, Any]) -> str:
    return f"{body['seconds']['whole export']} s"


def _stress(row: str) -> Callable[[dict[str, Any]], str]:
    return lambda body: interval(next(r["stress_auc"] for r in body["rows"] if r["row"] == row))


def _copies_cost(body: dict[str, Any]) -> str:
    found = body["pairs"][0]["difference"]
    return f"{found['value']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}]"


def _refused(name: str) -> Callable[[dict[str, Any]], str]:
    return lambda body: percent(body["others"][name]["refused"])


def _refused_own(body: dict[str, Any]) -> str:
    return f"{body['out_of_fold']['refused']} of {body['out_of_fold']['images']}"


FIGURES: dict[str, tuple[Callable[[dict[str, Any]], str], str]] = {
    "changed_out_of_fold": (changed_out_of_fold, "decisions.json"),
    "changed_by_seeds": (changed_by_seeds, "decisions.json"),
    "changed_elsewhere": (changed_elsewhere, "decisions.json"),
    "int8_share": (int8_share, "decisions.json"),
    "changed_tflite_int8": (_changed("tflite-int8"), "benchmark.json"),
    "changed_by_tflite_converter": (_changed("TFLite converter, int8"), "benchmark.json"),
    "changed_by_onnx_runtime": (_changed("ONNX Runtime, int8"), "benchmark.json"),
    "tflite_int8_faster": (_times_faster("tflite-int8", "tflite-fp32"), "benchmark.json"),
    "openvino_int8_faster": (_times_faster("openvino-int8", "openvino-fp32"), "benchmark.json"),
    "groups_missing": (_missing_groups("tflite-int8"), "candidates.json"),
    "export_seconds": (_export_seconds, "candidates.json"),
    "stress_without_copies": (_stress("stages"), "augmentation.json"),
    "stress_with_copies": (_stress("copies"), "augmentation.json"),
    "copies_cost": (_copies_cost, "augmentation.json"),
    "methods_images": (images, "explanations-methods.json"),
    "refused_own": (_refused_own, "gate.json"),
    "refused_photographs": (_refused("photos, grey"), "gate.json"),
}
"""A name in the documents, what makes its figure, and from which file."""
