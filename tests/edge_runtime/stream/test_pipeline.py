"""The answers of a stream are those of single pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sonoedge.edge_runtime.imaging.image import find_images, read_image
from sonoedge.edge_runtime.model.classifier import Classifier
from sonoedge.edge_runtime.stream.frames import open_source
from sonoedge.edge_runtime.stream.pipeline import FrameStream
from tests.helpers.pictures import picture


def test_stream_answers_equal_single_answers(float_bundle: Path, phantoms: Path) -> None:
    classifier = Classifier(float_bundle, "tflite-fp32", threads=1)
    paths = find_images(phantoms)
    results = list(FrameStream(classifier, open_source(str(phantoms)), smooth_seconds=0))
    assert len(results) == len(paths)
    for path, result in zip(paths, results, strict=True):
        assert result.answer.probability == classifier.predict(read_image(path)).probability
        assert result.smoothed == pytest.approx(result.answer.probability, abs=1e-6)
        latency = result.answer.latency_ms
        assert result.total_ms >= latency["invoke"] + latency["head"] + latency["resize"]


def test_the_crop_is_found_once_and_kept(float_bundle: Path, tmp_path: Path) -> None:
    for index in range(3):
        screen = np.zeros((300, 400, 3), np.uint8)
        screen[60:260, 80 + index : 330] = picture(index, 200, 250 - index) + 30
        Image.fromarray(screen).save(tmp_path / f"{index}.png")
    stream = FrameStream(Classifier(float_bundle, "tflite-fp32"), open_source(str(tmp_path)), crop="auto")
    shapes = {result.answer.picture.shape for result in stream}
    assert len(shapes) == 1
    assert stream.region is not None
    assert abs(stream.region.left - 80) < 4
