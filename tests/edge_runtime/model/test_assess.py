"""One verdict everywhere: the rule, its words, the Python API, the stream and the station."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sonoedge.edge_runtime.bundle.contract import GATE_FILE, Decision
from sonoedge.edge_runtime.bundle.manifest import load_bundle
from sonoedge.edge_runtime.errors import BundleError, ModelError
from sonoedge.edge_runtime.explain.gradcam import explanation
from sonoedge.edge_runtime.imaging.quality import Quality, hints
from sonoedge.edge_runtime.model.assess import REASONS, SHIFTED_VIEW, VERDICTS, Assessment, Band, assess, over_time
from sonoedge.edge_runtime.model.cascade import Cascade
from sonoedge.edge_runtime.model.classifier import Classifier
from sonoedge.edge_runtime.model.gate import GateResult
from sonoedge.edge_runtime.model.result import Result
from sonoedge.edge_runtime.serve.station import AnswerOptions, Station
from sonoedge.edge_runtime.stream.frames import Frame, Source
from sonoedge.edge_runtime.stream.pipeline import FrameStream, annotate
from sonoedge.edge_runtime.words import words
from tests.helpers.pictures import ARTIFACT, board, grey
from tests.helpers.places import VECTORS


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier(VECTORS / "bundle", ARTIFACT, threads=1)


# --- the rule and its words ----------------------------------------------------------------------


def test_every_code_has_words() -> None:
    table = words()
    assert set(table["verdicts"]) == set(VERDICTS)
    assert set(table["reasons"]) == set(REASONS)
    empty = np.zeros((1, 1, 3), np.uint8)
    found = {*hints(empty, Quality(0, 0, 0, 1, 1)), *hints(empty, Quality(255, 0, 0, 1, 1))}
    assert set(table["hints"]) == found
    assert "refused" in table["verdicts"]["refused"]["text"].lower()


@pytest.mark.parametrize(
    "gate", [None, GateResult(0.5, 2.0, 1.0), GateResult(1.5, 2.0, 1.0), GateResult(2.5, 2.0, 1.0)]
)
@pytest.mark.parametrize("codes", [(), ("speckle",), ("overlay",)])
@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_a_shifted_view_is_named_only_where_one_changed_the_answer(
    gate: GateResult | None, codes: tuple[str, ...], probability: float
) -> None:
    bundle = load_bundle(VECTORS / "bundle")
    for band in (None, Band(0.6, 0.9, 5), Band(0.1, 0.4, 5)):
        found = assess(bundle, probability, 0.5, gate=gate, hints=codes, band=band)
        assert SHIFTED_VIEW not in found.reasons
        assert "shifted" not in found.text
    found = assess(bundle, probability, 0.5, gate=gate, hints=codes, band=Band(0.1, 0.9, 5))
    assert ("shifted" in found.text) == (found.reasons == (SHIFTED_VIEW,))


def test_a_label_with_braces_is_a_label() -> None:
    bundle = replace(
        load_bundle(VECTORS / "bundle"), labels=("benign", "{reasons}"), decision=Decision("threshold", "{reasons}")
    )
    assert assess(bundle, 0.9, 0.5).text == "Suspicious: the model reads this picture as {reasons}."


def test_over_time_the_reasons_of_the_frame_stay() -> None:
    bundle = load_bundle(VECTORS / "bundle")
    flagged = Assessment("uncertain", ("unlike_training",), "…")
    assert over_time(bundle, flagged, 0.9, 0.5) is flagged
    assert over_time(bundle, assess(bundle, 0.1, 0.5), 0.9, 0.5).verdict == "suspicious"


# --- the Python API ----------------------------------------------------------------------


def test_a_refused_image_has_no_numbers_unless_ungated(classifier: Classifier) -> None:
    answer, ungated = classifier.predict(board()), classifier.predict(board(), ungated=True)
    raw, outputs = classifier.explain_raw(board())
    assert (answer.verdict, answer.withheld) == ("refused", True)
    assert answer.assessment.reasons == ("outside_training", "not_b_mode")
    assert (answer.label, answer.probability, answer.logit, answer.band, answer.outputs) == (None,) * 5
    assert (ungated.verdict, ungated.withheld, ungated.assessment) == ("refused", False, answer.assessment)
    assert (ungated.label, ungated.probability, ungated.logit) == (raw.label, raw.probability, raw.logit)
    assert ungated.outputs is not None
    assert explanation(classifier.bundle, ungated.outputs, "benign").shares.keys() == {
        "branch_0",
        "branch_1",
        "bias",
    }
    body = json.loads(json.dumps(answer.to_json(), allow_nan=False))
    assert set(body) == {
        "image", "label", "probability", "logit", "threshold", "artifact", "latency_ms",
        "verdict", "reasons", "text", "gate",
    }  # fmt: skip
    assert body["gate"]["distance"] > body["gate"]["threshold"] > body["gate"]["warning"]
    assert len(outputs["logit"]) == 1


def test_an_ordinary_image_is_answered_from_memory_and_from_a_file(classifier: Classifier, tmp_path: Path) -> None:
    Image.fromarray(grey()).save(tmp_path / "x.png")
    Image.fromarray(board()).save(tmp_path / "y.png")
    answer = classifier.predict(grey())
    assert (answer.verdict, answer.assessment.reasons) == ("suspicious", ())
    again, refused = classifier.stream([tmp_path / "x.png", tmp_path / "y.png"])
    assert isinstance(again, Result) and isinstance(refused, Result)
    assert (again.probability, again.verdict) == (answer.probability, answer.verdict)
    assert refused.withheld
    assert not next(classifier.stream([tmp_path / "y.png"], ungated=True)).withheld  # type: ignore[union-attr]


def test_views_are_off_unless_asked_for(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    """With shifted views that answer otherwise, the verdict changes only when they were asked for."""
    assert classifier.predict(grey()).band is None
    with_views = classifier.predict(grey(), views=5)
    assert with_views.band is not None and with_views.band.views == 5
    monkeypatch.setattr(
        "sonoedge.edge_runtime.model.predictor.shifted_views", lambda image, count: [grey(2)] * count
    )
    assert classifier.predict(grey()).verdict == "suspicious"
    turned = classifier.predict(grey(), views=3)
    assert (turned.verdict, turned.assessment.reasons) == ("uncertain", ("shifted_view",))


def test_a_bundle_without_a_gate_is_assessed_by_quality_and_threshold(tmp_path: Path) -> None:
    bundle = load_bundle(VECTORS / "cascade" / "first")
    plain = Classifier(bundle, threads=1)
    plain.__dict__["gate"] = None
    assert plain.predict(grey()).to_json()["gate"] is None
    assert plain.predict(board()).assessment.reasons == ("not_b_mode",)
    assert not plain.predict(board()).withheld


def test_a_cascade_half_without_a_gate_answers_nothing_gated() -> None:
    cascade = Cascade(load_bundle(VECTORS / "cascade"), threads=1)
    assert cascade.gated and cascade.predict(grey()).gate is not None
    cascade.first.__dict__["gate"] = None
    with pytest.raises(BundleError, match="the cheap model has no gate"):
        cascade.predict(grey())
    assert cascade.predict(grey(), ungated=True).probability is not None


def test_what_is_not_a_number_is_no_answer(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    prediction, outputs = classifier.explain_raw(grey())
    broken = replace(prediction, probability=float("nan"))
    monkeypatch.setattr(classifier, "explain_prepared", lambda *a, **k: (broken, outputs))
    with pytest.raises(ModelError, match="not answer with a number"):
        classifier.predict(grey())


# --- threads ----------------------------------------------------------------------


class Knocking:
    """A lock that says when somebody stands before it."""

    def __init__(self, knocked: threading.Event) -> None:
        self._lock, self._knocked = threading.Lock(), knocked

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            self._knocked.set()
            self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class OneTensor:
    """An interpreter: one input tensor for all. The first run lets a second caller come in before it reads."""

    def __init__(self, real: Any, model: Any, other: np.ndarray, came: threading.Event) -> None:
        self._real, self._model, self._other, self._came = real, model, other, came
        self.thread: threading.Thread | None = None
        self.found: list[float] = []

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        self._tensor = inputs["image"]
        if self.thread is None:
            self.thread = threading.Thread(target=self._second)
            self.thread.start()
            # Without a lock the second caller gets through to the end; with one it knocks.
            self._came.wait()
        return self._real.run({"image": self._tensor})

    def _second(self) -> None:
        self.found.append(self._model.predict(self._other).logit)
        self._came.set()


@pytest.mark.parametrize("kind", ["classifier", "cascade"])
def test_two_threads_get_each_their_own_answer(kind: str) -> None:
    if kind == "classifier":
        model: Any = Classifier(VECTORS / "bundle", ARTIFACT, threads=1)
        inner = model
    else:
        model = Cascade(load_bundle(VECTORS / "cascade"), threads=1)
        inner = model.first
    mine, other = model.predict(grey(1)).logit, model.predict(grey(2)).logit
    assert abs(mine - other) > 1
    came = threading.Event()
    inner._lock = Knocking(came)
    inner.backbone = runner = OneTensor(inner.backbone, model, grey(2), came)
    assert model.predict(grey(1)).logit == pytest.approx(mine, abs=1e-5)
    assert runner.thread is not None
    runner.thread.join()
    assert runner.found == [pytest.approx(other, abs=1e-5)]


# --- streams ----------------------------------------------------------------------


def frames(*pictures: np.ndarray) -> Source:
    return Source(lambda: iter([Frame(i + 1, 0.1 * i, picture) for i, picture in enumerate(pictures)]))


def test_a_refused_frame_has_no_number_and_leaves_the_filter_alone(classifier: Classifier) -> None:
    results = list(FrameStream(classifier, frames(grey(1), board(), grey(2))))
    assert [result.assessment.verdict for result in results][1] == "refused"
    body = json.loads(json.dumps(results[1].to_json(), allow_nan=False))
    assert [body[key] for key in ("label", "probability", "logit", "smoothed", "recent", "band")] == [None] * 6
    assert (body["verdict"], body["reasons"]) == ("refused", ["outside_training", "not_b_mode"])
    # As if there had been a pause.
    pause = Source(lambda: iter([Frame(1, 0.0, grey(1)), Frame(3, 0.2, grey(2))]))
    assert results[2].smoothed == list(FrameStream(classifier, pause))[1].smoothed
    drawn = annotate(results[1])
    np.testing.assert_array_equal(drawn[:130], board())
    ungated = list(FrameStream(classifier, frames(grey(1), board()), ungated=True))[1]
    assert ungated.smoothed is not None and ungated.assessment.verdict == "refused"
    assert (annotate(ungated)[:130] != board()).any()


def test_frames_that_differ_are_no_shifted_view(classifier: Classifier) -> None:
    """The range of the last frames crosses the threshold: that is shown, but no reason."""
    results = list(FrameStream(classifier, frames(*[grey(1 + i % 2) for i in range(6)])))
    assert any(r.recent and r.recent.low < 0.5 <= r.recent.high for r in results)
    assert all(r.assessment.reasons == () and "shifted" not in r.assessment.text for r in results)
    assert all(r.answer.band is None for r in results)


def test_stream_views_on_request(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "sonoedge.edge_runtime.model.predictor.shifted_views", lambda image, count: [grey(2)] * count
    )
    (result,) = FrameStream(classifier, frames(grey(1)), views=2)
    assert result.assessment.reasons == ("shifted_view",)


# --- the station ----------------------------------------------------------------------


def png(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def test_the_station_gives_the_same_verdict_and_nothing_of_a_refused_picture(classifier: Classifier) -> None:
    station = Station(VECTORS / "bundle", ARTIFACT, threads=1)
    station.open()
    for picture in (grey(1), grey(2), board()):
        wanted, body = (
            classifier.predict(picture).to_json(),
            station.answer(png(picture), AnswerOptions(explain=True, views=3)),
        )
        for key in ("verdict", "reasons", "text", "gate", "label"):
            assert body[key] == wanted[key]
        assert (body["explanation"] is None) == (body["probability"] is None) == (body["verdict"] == "refused")
        assert (body["band"] is None) == (body["verdict"] == "refused")
    drift = station.drifts[ARTIFACT].to_json()
    assert (drift["images"], drift["refused"]) == (3, 1)
    info = station.describe()
    station.close()
    assert info["words"] == words()
    assert [item["gate"]["path"] for item in info["browser_artifacts"]] == [GATE_FILE, GATE_FILE]
