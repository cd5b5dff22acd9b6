"""The device's Python API: what a program types, and what it gets."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sonoedge
from sonoedge.edge_runtime.children import child_environment
from sonoedge.edge_runtime.imaging import pictures
from sonoedge.edge_runtime.imaging.image import read_image
from tests.helpers.pictures import board, grey
from tests.helpers.places import VECTORS

ARTIFACT = "tflite-fp32"


@pytest.fixture(scope="module")
def model() -> sonoedge.Predictor:
    return sonoedge.load(VECTORS / "bundle", ARTIFACT, threads=1)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "frame.png"
    Image.fromarray(grey()).save(path)
    return path


def same(first: sonoedge.Result, second: sonoedge.Result) -> bool:
    """Equal but for the name of the image and the milliseconds."""
    bodies = [{**r.to_json(), "image": "", "latency_ms": {}} for r in (first, second)]
    return bodies[0] == bodies[1]


def test_what_the_readme_types(picture: Path, tmp_path: Path) -> None:
    model = sonoedge.load(VECTORS / "bundle", ARTIFACT)
    result = model(str(picture))
    assert isinstance(result, sonoedge.Result)
    assert result.scores is not None and result.label is not None and result.probability is not None
    assert list(result.scores) == list(model.bundle.labels)
    assert sum(result.scores.values()) == pytest.approx(1.0)
    assert result.scores[model.bundle.positive_label] == result.probability
    assert (result.label == model.bundle.positive_label) == (result.probability >= result.threshold)
    assert result.verdict in ("suspicious", "not_suspicious") and result.reasons == ()
    assert result.gate is not None and result.image == str(picture)
    result.plot().save(tmp_path / "heat.png")
    drawn = np.asarray(Image.open(tmp_path / "heat.png"))
    assert drawn.shape == (grey().shape[0] + 36, grey().shape[1], 3)
    assert (drawn[: grey().shape[0]] != grey()).any() and drawn[-36:].any()


def test_a_picture_in_any_form_gives_the_same(model: sonoedge.Predictor, picture: Path) -> None:
    wanted = model(picture)
    array = read_image(picture)
    forms: list[Any] = [str(picture), picture.read_bytes(), Image.open(picture), array, array[:, :, 0]]
    assert (array[:, :, 0] == array[:, :, 1]).all(), "the picture must be grey for the last form"
    for form in [*forms, array[:, :, :1], np.asfortranarray(array), Image.open(picture).convert("L")]:
        assert same(model(form), wanted)
    assert [same(result, wanted) for result in model([picture, array])] == [True, True]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (np.zeros((8, 8, 3), np.float32), "uint8. Received: float32"),
        (np.zeros((8, 8, 4), np.uint8), r"Received: shape \(8, 8, 4\)"),
        (np.zeros((1, 8, 8, 3), np.uint8), r"Received: shape \(1, 8, 8, 3\)"),
        (np.zeros((0, 8), np.uint8), "not empty"),
        (b"", "empty"),
        (b"no image", "not a PNG"),
        ("nowhere.png", "No such image file"),
    ],
)
def test_what_is_no_picture_is_one_sentence(model: sonoedge.Predictor, source: Any, words: str) -> None:
    with pytest.raises(sonoedge.ImageError, match=words):
        model(source)


def test_a_wrong_argument_is_one_sentence(model: sonoedge.Predictor, tmp_path: Path) -> None:
    for wrong, words in ((3, "Received: int"), (None, "Received: NoneType"), (tmp_path, "is a folder: stream")):
        with pytest.raises(sonoedge.UsageError, match=words):
            model(wrong)  # type: ignore[call-overload]
    with pytest.raises(sonoedge.UsageError, match="in a file only"):
        model(grey(), frame=2)


def test_a_file_of_several_frames_needs_one(model: sonoedge.Predictor, tmp_path: Path) -> None:
    path = tmp_path / "loop.tif"
    pages = [Image.fromarray(grey(seed)) for seed in (1, 2)]
    pages[0].save(path, save_all=True, append_images=pages[1:])
    with pytest.raises(sonoedge.FrameNeededError):
        model(path)
    second = model(path, frame=2)
    assert same(second, model(grey(2))) is False  # the frame is named
    assert second.frame == 2 and second.to_json()["frame"] == 2 and second.logit == model(grey(2)).logit


def test_a_refused_picture_has_no_numbers(model: sonoedge.Predictor, tmp_path: Path) -> None:
    result = model(board())
    assert (result.verdict, result.label, result.scores, result.withheld) == ("refused", None, None, True)
    with pytest.raises(sonoedge.UsageError, match="has no explanation"):
        result.explain()
    assert (np.asarray(result.plot())[: board().shape[0]] == board()).all(), "no heat map on a refused picture"
    ungated = model(board(), ungated=True)
    assert ungated.verdict == "refused" and ungated.scores is not None
    ungated.save(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        f"image{end}" for end in (".json", ".npz", ".overlay.png", ".panel.png")
    ]
    assert [p.name for p in result.save(tmp_path)] == ["image.json"]
    assert [p.name for p in tmp_path.iterdir()] == ["image.json"], "the heat map of the earlier run is deleted"
    body = json.loads((tmp_path / "image.json").read_text())
    assert (body["verdict"], body["probability"]) == ("refused", None) and "Research use only" in body[
        "intended_use"
    ]


def test_the_explanation_is_of_the_class_asked_for(model: sonoedge.Predictor) -> None:
    result = model(grey())
    assert result.logit is not None
    for label in model.bundle.labels:
        why = result.explain(label)
        assert why.label == label
        assert sum(why.shares.values()) == pytest.approx(result.logit, abs=1e-4)
    assert result.explain().label == result.label
    with pytest.raises(sonoedge.UsageError, match="Unknown class"):
        result.explain("cyst")
    with pytest.raises(sonoedge.UsageError, match="Unknown branch"):
        result.plot(branch="nothing")


def test_a_stream_keeps_the_order_and_goes_on_after_a_bad_file(model: sonoedge.Predictor, tmp_path: Path) -> None:
    for seed in (1, 2, 3, 4, 5):
        Image.fromarray(grey(seed)).save(tmp_path / f"{seed}.png")
    (tmp_path / "3.png").write_bytes(b"\x89PNG\r\n broken")
    results = list(model.stream(tmp_path))
    assert [type(r) for r in results] == [sonoedge.Result] * 2 + [sonoedge.ImageError] + [sonoedge.Result] * 2
    assert "3.png" in str(results[2])
    for seed, result in zip((1, 2, 4, 5), (results[i] for i in (0, 1, 3, 4)), strict=True):
        assert isinstance(result, sonoedge.Result)
        assert result.image == str(tmp_path / f"{seed}.png") and result.logit == model(grey(seed)).logit


def test_a_stream_decodes_ahead_but_not_without_limit(
    model: sonoedge.Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    decoded = threading.Event()

    def sources() -> Iterator[Any]:
        for number in range(100):
            taken.append(number)
            yield grey(number)

    original = pictures.open_picture
    calls: list[str] = []

    def noted(*arguments: Any) -> Any:
        calls.append(threading.current_thread().name)
        if len(calls) == 2:
            decoded.set()
        return original(*arguments)

    monkeypatch.setattr("sonoedge.edge_runtime.model.predictor.open_picture", noted)
    stream = model.stream(sources())
    next(stream)
    assert decoded.wait(60), "the second picture is decoded while nobody asks for it"
    assert len(taken) <= 3 and threading.current_thread().name not in calls
    stream.close()  # type: ignore[attr-defined]
    assert not [t for t in threading.enumerate() if t.name.startswith("decode") and t.is_alive()]


def test_after_close_the_results_stay_and_the_model_says_so(picture: Path) -> None:
    with sonoedge.load(VECTORS / "bundle", ARTIFACT) as model:
        result = model(picture)
    with pytest.raises(sonoedge.UsageError, match=r"closed: open its bundle again with sonoedge.load\(\)"):
        model(picture)
    assert result.plot().size[0] == grey().shape[1] and result.explain().label == result.label


def test_a_bundle_with_a_cascade_answers_as_cascade() -> None:
    cascade = sonoedge.load(VECTORS / "cascade")
    single = sonoedge.load(VECTORS / "cascade", cascade.artifact.name)
    assert set(single.models) < set(cascade.models)  # type: ignore[attr-defined]
    result = cascade(grey())
    assert result.artifact in cascade.models  # type: ignore[attr-defined]
    cascade.close()
    with pytest.raises(sonoedge.UsageError, match="closed"):
        cascade(grey())


def test_threads_share_a_model(model: sonoedge.Predictor) -> None:
    wanted = [model(grey(seed)).logit for seed in range(4)]
    found: dict[int, list[float | None]] = {}
    threads = [
        threading.Thread(target=lambda s=seed: found.update({s: [model(grey(s)).logit for _ in range(10)]}))  # type: ignore[misc]
        for seed in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {seed: [wanted[seed]] * 10 for seed in range(4)}


def test_load_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(sonoedge.BundleError, match="No such bundle folder"):
        sonoedge.load(tmp_path / "none")
    with pytest.raises(sonoedge.UsageError, match="has no artifact 'gone'"):
        sonoedge.load(VECTORS / "bundle", "gone")
    copy = tmp_path / "copy"
    shutil.copytree(VECTORS / "bundle", copy)
    (copy / "MODEL_CARD.md").write_text("changed")
    with pytest.raises(sonoedge.BundleError, match=r"MODEL_CARD\.md"):
        sonoedge.load(copy)


def test_import_is_cheap_and_imports_no_more_than_it_must() -> None:
    code = "import sys, sonoedge; print(sorted({'numpy', 'PIL', 'tensorflow', 'keras'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=child_environment(), check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_picture_from_memory_may_be_a_jpeg(model: sonoedge.Predictor) -> None:
    buffer = io.BytesIO()
    Image.fromarray(grey()).save(buffer, "JPEG", quality=95)
    result = model(buffer.getvalue())
    assert result.image == "image" and result.verdict in ("suspicious", "not_suspicious")
