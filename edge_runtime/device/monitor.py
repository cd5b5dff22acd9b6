"""Optional local counters of what a device answered; they hold no image.

    monitor = Monitor()
    monitor.answered(answer)
    monitor.watch(classifier.deciding_model(answer), answer)
    monitor.unreadable("ImageError")
    print(monitor.prometheus())

For each artifact: counts by verdict and by reason, a histogram of probabilities, a histogram of latency and, if the
bundle has a gate, the drift of the features (``sonoedge predict --counters FILE``). The server has its own
counters, `edge_runtime.serve.metrics`. Nothing is sent anywhere; a restart starts from zero.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sonoedge.edge_runtime.model.drift import Drift
from sonoedge.edge_runtime.model.predictor import SingleModel
from sonoedge.edge_runtime.model.result import Result

PROBABILITY_BOUNDS = tuple(round(0.1 * i, 1) for i in range(1, 11))
LATENCY_BOUNDS_MS = (5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10_000.0)


class Histogram:
    """Counts of values up to each bound (inclusive) and above the last bound, and the sum of all values."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Count one finite value."""
        self.counts[int(np.searchsorted(self.bounds, value, side="left"))] += 1
        self.total += value

    def to_json(self) -> dict[str, Any]:
        """``bounds``; ``counts``, one more than bounds, the last for values above all bounds; ``sum``."""
        return {"bounds": list(self.bounds), "counts": list(self.counts), "sum": self.total}


class Monitor:
    """Counters of one process; safe to call from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._verdicts: Counter[tuple[str, str]] = Counter()
        self._reasons: Counter[tuple[str, str]] = Counter()
        self._unreadable: Counter[str] = Counter()
        self._probability: dict[str, Histogram] = {}
        self._latency: dict[str, Histogram] = {}
        self._drift: dict[str, Drift | None] = {}

    def answered(self, answer: Result) -> None:
        """Count one answer, refused or not; a withheld probability is in no histogram."""
        name = answer.artifact
        with self._lock:
            self._verdicts[name, answer.verdict] += 1
            for reason in answer.assessment.reasons:
                self._reasons[name, reason] += 1
            if answer.probability is not None:
                self._probability.setdefault(name, Histogram(PROBABILITY_BOUNDS)).add(answer.probability)
            total = sum(answer.latency_ms.values())
            self._latency.setdefault(name, Histogram(LATENCY_BOUNDS_MS)).add(total)

    def watch(self, deciding_model: SingleModel, answer: Result) -> None:
        """Count one image's features towards the drift, if the bundle has a gate; refused images count, too.

        Args:
            deciding_model: the model that decided.
            answer: its answer.
        """
        with self._lock:
            if answer.artifact not in self._drift:
                self._drift[answer.artifact] = Drift(deciding_model.gate) if deciding_model.gate else None
            drift = self._drift[answer.artifact]
        if drift is not None and answer.features is not None:
            drift.add(answer.features)

    def unreadable(self, kind: str) -> None:
        """Count an input without an answer; ``kind`` is the name of the error."""
        with self._lock:
            self._unreadable[kind] += 1

    def to_json(self) -> dict[str, Any]:
        """All counters as one JSON object."""
        with self._lock:
            return {
                "verdicts": [
                    {"artifact": a, "verdict": b, "count": n} for (a, b), n in sorted(self._verdicts.items())
                ],
                "reasons": [
                    {"artifact": a, "reason": b, "count": n} for (a, b), n in sorted(self._reasons.items())
                ],
                "unreadable": dict(sorted(self._unreadable.items())),
                "probability": {name: h.to_json() for name, h in sorted(self._probability.items())},
                "latency_ms": {name: h.to_json() for name, h in sorted(self._latency.items())},
                "drift": {name: drift.to_json() for name, drift in sorted(self._drift.items()) if drift},
            }

    def prometheus(self) -> str:
        """All counters in the Prometheus text format 0.0.4."""
        body = self.to_json()
        lines = []
        for name, label in (("verdicts", "verdict"), ("reasons", "reason")):
            lines.append(f"# TYPE sonoedge_{name}_total counter")
            lines += [
                _sample(f"sonoedge_{name}_total", {"artifact": item["artifact"], label: item[label]}, item["count"])
                for item in body[name]
            ]
        lines.append("# TYPE sonoedge_unreadable_total counter")
        lines += [_sample("sonoedge_unreadable_total", {"error": k}, n) for k, n in body["unreadable"].items()]
        for name, key in (("sonoedge_probability", "probability"), ("sonoedge_latency_milliseconds", "latency_ms")):
            lines.append(f"# TYPE {name} histogram")
            for artifact, histogram in body[key].items():
                lines += _buckets(name, artifact, histogram)
        return "\n".join(lines + drift_samples(body["drift"])) + "\n"


def drift_samples(drifts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Lines of the Prometheus text format, from the results of `Drift.to_json` by artifact."""
    lines = []
    for key in ("images", "flagged", "refused", "shift", "by_chance", "distance"):
        if known := {name: body[key] for name, body in drifts.items() if body[key] is not None}:
            lines.append(f"# TYPE sonoedge_drift_{key} gauge")
            lines += [_sample(f"sonoedge_drift_{key}", {"artifact": name}, value) for name, value in known.items()]
    shifts = [
        _sample("sonoedge_drift_branch_shift", {"artifact": name, "branch": branch}, value)
        for name, body in drifts.items()
        for branch, value in body["by_branch"].items()
        if value is not None
    ]
    return lines + (["# TYPE sonoedge_drift_branch_shift gauge", *shifts] if shifts else [])


def _buckets(name: str, artifact: str, histogram: Mapping[str, Any]) -> list[str]:
    lines, count = [], 0
    for bound, number in zip([*map(str, histogram["bounds"]), "+Inf"], histogram["counts"], strict=True):
        count += number
        lines.append(_sample(f"{name}_bucket", {"artifact": artifact, "le": bound}, count))
    lines.append(_sample(f"{name}_sum", {"artifact": artifact}, histogram["sum"]))
    lines.append(_sample(f"{name}_count", {"artifact": artifact}, count))
    return lines


def _sample(name: str, labels: Mapping[str, str], value: float) -> str:
    escaped = {
        key: text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") for key, text in labels.items()
    }
    inside = ",".join(f'{key}="{text}"' for key, text in escaped.items())
    return f"{name}{{{inside}}} {value}" if inside else f"{name} {value}"
