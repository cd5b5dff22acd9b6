from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sonoedge.edge_runtime.errors import DataError
from sonoedge.train.evaluation.figures import plot_confusion, plot_curves, plot_roc

rng = np.random.default_rng(0)
Y = np.arange(120) % 2
LOGIT = rng.normal(size=120) + 2 * Y - 1
HISTORY = {"loss": [0.7, 0.5, 0.4], "val_loss": [0.8, 0.6, 0.5], "auc": [0.6, 0.8, 0.9], "lr": [1.0, 1.0, 1.0]}

FIGURES = {
    "curves": lambda path: plot_curves(HISTORY, path),
    "curves of one epoch": lambda path: plot_curves({"loss": [0.7], "val_accuracy": [0.5]}, path),
    "confusion": lambda path: plot_confusion(Y, LOGIT > 0, ["benign", "malignant"], path, "Test set"),
    "confusion of three": lambda path: plot_confusion([0, 1, 2, 2], [0, 1, 1, 2], ["a", "b", "c"], path),
    "roc": lambda path: plot_roc({"fp32": (Y, LOGIT), "int8": (Y, np.round(LOGIT))}, path),
    "roc of one class": lambda path: plot_roc({"external": (np.ones(5, int), np.arange(5.0))}, path),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_small_complete_pngs(name: str, tmp_path: Path) -> None:
    path = tmp_path / "figures" / "x.png"
    FIGURES[name](path)
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG" and min(image.size) >= 300
        assert len(np.unique(np.asarray(image.convert("L")))) > 10, "blank"
    assert path.stat().st_size < 100_000
    assert [p.name for p in path.parent.iterdir()] == ["x.png"]


def test_equal_data_give_equal_bytes_and_replace_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "roc.png"
    path.write_bytes(b"old")
    plot_roc({"fp32": (Y, LOGIT)}, path)
    first = path.read_bytes()
    plot_roc({"fp32": (Y, LOGIT)}, path)
    assert path.read_bytes() == first


@pytest.mark.long
def test_pyplot_stays_out(tmp_path: Path) -> None:
    """In a process of its own: other tests may have imported pyplot."""
    code = (
        "import sys; from pathlib import Path; from sonoedge.train.evaluation.figures import plot_confusion\n"
        "plot_confusion([0, 1], [0, 1], ['a', 'b'], Path(sys.argv[1]))\n"
        "assert 'matplotlib.figure' in sys.modules and 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "x.png"], check=True)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda path: plot_curves({"lr": [1.0]}, path), "loss, accuracy or auc"),
        (lambda path: plot_confusion([0, 1], [0], ["a", "b"], path), "same shape"),
        (lambda path: plot_confusion([], [], ["a", "b"], path), "same shape"),
        (lambda path: plot_confusion([0, 2], [0, 1], ["a", "b"], path), "one per label"),
        (lambda path: plot_roc({"x": ([0, 1], [0.0, np.nan])}, path), "finite"),
    ],
)
def test_unusable_data_leave_no_file(call, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    with pytest.raises(DataError, match=message):
        call(path)
    assert not path.exists()
