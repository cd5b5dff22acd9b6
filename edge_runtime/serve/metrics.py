"""Counters and a latency histogram in the Prometheus text format; never anything about an image."""

from __future__ import annotations

from collections import Counter
from threading import Lock

_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """Thread-safe; labels come from fixed sets, so the number of series is bounded."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._counters: Counter[tuple[str, str]] = Counter()
        self._buckets = [0] * len(_BUCKETS)
        self._seconds, self._count = 0.0, 0

    def add(self, name: str, labels: str = "", amount: int = 1) -> None:
        """Add to a counter; ``labels`` is the text between the braces."""
        with self._lock:
            self._counters[name, labels] += amount

    def answered(self, artifact: str, verdict: str, seconds: float) -> None:
        """Count one answered image or live frame, under the names of ``sonoedge predict --counters``."""
        self.add("verdicts_total", f'artifact="{artifact}",verdict="{verdict}"')
        with self._lock:
            self._seconds += seconds
            self._count += 1
            for index, limit in enumerate(_BUCKETS):
                self._buckets[index] += seconds <= limit

    def text(self, gauges: dict[str, float]) -> str:
        """The text that a Prometheus server reads, with ``gauges`` by name."""
        with self._lock:
            lines = []
            for name in sorted({name for name, _ in self._counters}):
                lines.append(f"# TYPE sonoedge_{name} counter")
                for (key, labels), value in sorted(self._counters.items()):
                    if key == name:
                        lines.append(
                            f"sonoedge_{name}{{{labels}}} {value}" if labels else f"sonoedge_{name} {value}"
                        )
            lines.append("# TYPE sonoedge_answer_seconds histogram")
            for limit, value in zip(_BUCKETS, self._buckets, strict=True):
                lines.append(f'sonoedge_answer_seconds_bucket{{le="{limit}"}} {value}')
            lines.append(f'sonoedge_answer_seconds_bucket{{le="+Inf"}} {self._count}')
            lines.append(f"sonoedge_answer_seconds_sum {self._seconds:.6f}")
            lines.append(f"sonoedge_answer_seconds_count {self._count}")
        for name, gauge in gauges.items():
            lines += [f"# TYPE sonoedge_{name} gauge", f"sonoedge_{name} {gauge:g}"]
        return "\n".join(lines) + "\n"
