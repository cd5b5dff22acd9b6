"""How figures are written: names of metrics, percent, milliseconds, megabytes, intervals."""

from __future__ import annotations

from sonoedge.train.evaluation.intervals import Interval

NAMES = {
    "accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "sensitivity": "sensitivity",
    "specificity": "specificity", "precision": "precision", "f1": "F1", "auc": "AUC", "brier": "Brier score",
    "calibration_error": "calibration error",
}  # fmt: skip


def shown(interval: Interval | None) -> str:
    """An interval as ``0.912 [0.850, 0.950]``; n/a if there is none."""
    if interval is None or interval.value != interval.value:
        return "n/a"
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def percent(value: float, digits: int = 1) -> str:
    """A share as ``95.0 %``, with a narrow non-breaking space."""
    return "n/a" if value != value else f"{100 * value:.{digits}f}\u202f%"


def milliseconds(value: float | None) -> str:
    """Three significant digits; an en dash for None (too few queries)."""
    return "–" if value is None else f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def megabytes(value: float | None) -> str:
    """Bytes as decimal megabytes; an en dash for None."""
    return "–" if value is None else f"{value / 1e6:.1f}" if value < 1e8 else f"{value / 1e6:.0f}"
