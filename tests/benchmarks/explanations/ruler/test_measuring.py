"""Methods of the device on a small bundle, from the images to the report, also after an interruption."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sonoedge.benchmarks.explanations.ruler import measuring
from sonoedge.benchmarks.explanations.ruler.comparison import sentence
from sonoedge.edge_runtime.words import INTENDED_USE
from sonoedge.train.evaluation.intervals import Interval
from sonoedge.train.simulation.phantoms import generate_phantoms
from tests.helpers.commands import Result
from tests.helpers.places import VECTORS

Run = Callable[..., Result]
METHODS = ["gradcam", "scorecam", "occlusion"]
CONTROLS = ["centre prior", "edge detector"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate_phantoms(tmp_path_factory.mktemp("ruler") / "data", cases_per_class=2, seed=4)


def arguments(data: Path, out: Path) -> list[object]:
    given: list[object] = [
        "benchmark-explain",
        "--bundle",
        VECTORS / "bundle",
        "--artifacts",
        "tflite-fp32",
        "--data",
        data,
    ]
    given += ["--out", out, "--timing-runs", 0, "--faithfulness-images", 0, "--panels", 1, "--threads", 1]
    return [*given, "--methods", "occlusion,scorecam", "--max-images", 4, "--quiet"]


def test_from_images_to_the_report(
    sonoedge: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, measured = tmp_path / "out", []
    whole = measuring.measure_image

    def interrupted(*given: object, **named: object) -> dict:
        if len(measured) == 2:
            raise KeyboardInterrupt
        measured.append(1)
        return whole(*given, **named)

    monkeypatch.setattr(measuring, "measure_image", interrupted)
    assert sonoedge(*arguments(data, out)).code == 130
    kept = tmp_path / ".out.methods.partial"
    assert len(json.loads(kept.read_text())["steps"]) == 2
    monkeypatch.setattr(measuring, "measure_image", whole)
    result = sonoedge(*arguments(data, out))
    assert result.code == 0, result.err
    assert "2 images were measured before" in result.out + result.err
    assert "calls an image for maps" in result.out + result.err
    assert not kept.exists()

    body = json.loads((out / "explanation.json").read_text())["methods"]
    assert [row["method"] for row in body["rows"]] == ["gradcam", "occlusion", "scorecam", *CONTROLS]
    assert (body["images"], body["artifact"]) == (4, "tflite-fp32")
    rows = {row["method"]: row for row in body["rows"]}
    for name in CONTROLS:
        assert rows[name]["control"] and rows[name]["seconds"] is None
        assert rows[name]["criteria"]["sanity"]["value"] == 1.0
    assert (rows["gradcam"]["calls"], rows["scorecam"]["calls"]) == (0, 0)
    assert rows["occlusion"]["calls"] > 30
    for row in body["rows"]:
        for other, differences in row["versus"].items():
            for key, found in differences.items():
                if found["value"] is not None and key not in ("sparseness", "entropy"):
                    own, theirs = row["criteria"][key]["value"], rows[other]["criteria"][key]["value"]
                    assert found["value"] == pytest.approx(own - theirs, abs=1e-5)
    assert all(-1 <= value <= 1 for value in body["agreement"].values())
    text = (out / "explanation.md").read_text()
    assert INTENDED_USE in text and "(methods.png)" in text
    assert "Which explanation to believe?" in text and "Beside Grad-CAM" in text
    assert (out / "methods.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--methods", "rice"], "Did you mean 'rise'?"),
        (["--methods", "rise", "--budget", "-1"], "seconds above 0"),
        (["--budget", "3"], "--budget is for --methods"),
    ],
)
def test_what_is_wrong_is_said_first(sonoedge: Run, tmp_path: Path, extra: list[str], message: str) -> None:
    result = sonoedge("benchmark-explain", "--data", tmp_path, "--out", tmp_path / "out", *extra)
    assert result.code == 2
    assert message in result.err


def test_the_sentence_says_what_the_intervals_say() -> None:
    up, down, even = Interval(0.2, 0.1, 0.3), Interval(-0.2, -0.3, -0.1), Interval(0.0, -0.1, 0.1)
    good = sentence({"centre prior": {"pointing": up, "road": up}, "edge detector": {"pointing": up, "road": up}})
    assert "it is one to look at" in good and "more often than the middle of the picture and edges" in good
    versus = {"centre prior": {"pointing": up, "road": up}, "edge detector": {"pointing": up, "road": up}}
    blind = sentence(versus, Interval(0.98, 0.95, 0.99))
    assert "a random head gives nearly the same map" in blind and "one to look at" not in blind
    poor = sentence({
        "centre prior": {"pointing": even, "road": down}, "edge detector": {"pointing": even, "road": even},
        "gradcam": {"deletion": down, "pointing": down, "entropy": up, "road": even},
    })  # fmt: skip
    assert "Do not read the place of the lesion from it" in poor
    assert "less than the middle of the picture, as much as edges" in poor
    assert "better in deletion; worse in pointing game" in poor and "entropy" not in poor


def test_the_first_images_are_those_that_a_limit_chooses(data: Path) -> None:
    from sonoedge.benchmarks.explanations.evaluation import limited
    from sonoedge.train.data.dataset import load_dataset

    dataset = load_dataset(data, classes=("benign", "malignant"))
    order = [dataset.samples[i].sha256 for i in measuring._by_digest(dataset)]
    assert sorted(order) == sorted(sample.sha256 for sample in dataset.samples)
    half = limited(dataset, len(dataset) // 2)
    assert set(order[: len(half)]) == {sample.sha256 for sample in half.samples}
    assert np.bincount(half.y).min() > 0
