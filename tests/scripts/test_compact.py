"""The script that measures the compact recipe: thresholds from some patients, scored on the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scripts.measure import compact
from scripts.results.tables import compact as table
from sonoedge.train.data.dataset import Dataset, Sample


def patients(count: int, share: float, seed: int) -> tuple[Dataset, np.ndarray]:
    """Two images a patient; the logits of positive ones are higher by 2."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(count) < share * count).astype(int)
    samples = [
        Sample(Path(f"{i}_{k}"), f"{i}_{k}", int(labels[i]), f"p{i}", "", None)
        for i in range(count)
        for k in (0, 1)
    ]
    logits = np.repeat(2.0 * labels + rng.normal(size=count), 2) + 0.1 * rng.normal(size=2 * count)
    return Dataset({"": Path()}, ("benign", "malignant"), tuple(samples)), logits


@pytest.mark.long
def test_the_wanted_sensitivity_is_met_on_patients_that_chose_nothing() -> None:
    dataset, logits = patients(300, 0.4, 0)
    found = compact.draws(dataset, logits, run_threshold=0.99)
    assert found["sensitivity"]["median"] >= 0.88
    assert 0.5 < found["sensitivity"]["p10"] < found["sensitivity"]["median"]
    assert found["specificity"]["median"] > 0.5
    assert found["own_threshold"][0] < 0.2
    assert found == compact.draws(dataset, logits, run_threshold=0.99)


@pytest.mark.long
def test_draws_with_too_few_positive_patients_do_not_count() -> None:
    dataset, logits = patients(300, 0.25, 1)
    found = compact.draws(dataset, logits, run_threshold=0.5)
    assert found["refused_draws"] > 100


def test_the_table() -> None:
    auc = [0.9, 0.8, 0.95]
    by_source = {"source a": {"images": 7, "metrics": {"auc": auc}}}
    figures = {"pointing": dict(zip(("value", "low", "high"), auc, strict=True))}
    rows = [{"method": name, "subset": "test", "metrics": figures} for name in ("Grad-CAM, malignant", "EigenCAM")]
    body = {
        "file": {"size_bytes": 3_800_000, "flipped": 2, "images": 9},
        "pointing": compact.pointing(rows),
        "train": {"seconds": {"fit": 120.0}, "test": {"auc": auc}, "by_source": by_source},
        "external": {"images": 9, "groups": 4, "full": {"auc": auc}, "tflite-int8": {"auc": auc}},
        "site": {
            "draws": 5, "patients": 3, "own_threshold": [0.5, 0.6],
            "sensitivity": {"median": 0.9, "p10": 0.8}, "specificity": {"median": 0.7, "p10": 0.6},
        },
    }  # fmt: skip
    lines = table(body).splitlines()
    assert len(lines) == 12
    assert "| training, minutes | 2 |" in lines
    assert lines[-1] == "| peak of the heat map in the lesion, test: Grad-CAM, malignant | 0.900 [0.800, 0.950] |"
    assert "| test images of a (7), AUC | 0.900 [0.800, 0.950] |" in lines
