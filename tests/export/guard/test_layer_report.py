"""The layer report names the operator that does the harm."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from sonoedge.edge_runtime.model.classifier import preprocess_file
from sonoedge.edge_runtime.words import INTENDED_USE
from sonoedge.export.guard.layer_report import (
    MAX_DB,
    LayerError,
    hints,
    layer_errors,
    short_name,
    write_layer_report,
)
from sonoedge.export.quantize.recipes import Recipe
from tests.helpers.int8_models import SIZE, bench, two_branches


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["tflite", "openvino"])
def test_the_fragile_operator_loses_most(runtime: str, tmp_path: Path) -> None:
    place = bench(tmp_path, two_branches(1), runtime, images=6)
    quantizer = place.source.quantizer(runtime)
    path = tmp_path / f"quantized{quantizer.suffix}"
    quantizer.build(path, Recipe())
    inputs = [preprocess_file(sample.path, (SIZE, SIZE)) for sample in place.evaluator.dataset.samples]
    layers = layer_errors(runtime, place.evaluator.float_path, path, quantizer.operators, inputs)
    branch_of = {op.name: op.branches for op in quantizer.operators}
    worst = max(layers, key=lambda layer: layer.added_noise)
    # The operator behind the hub reads the spoilt tensor: it is where the signal is lost.
    assert branch_of[worst.name] == {"right"}
    assert worst.lost_db > 10
    assert all(-1.0001 <= layer.cosine <= 1.0001 and layer.snr_db <= MAX_DB for layer in layers)
    words = write_layer_report(tmp_path / "report", "int8", "a title", layers)
    assert words and "loses" in words[0] and " dB" in words[0]
    body = json.loads((tmp_path / "report" / "int8.json").read_text())
    added = [layer["added_noise"] for layer in body["layers"]]
    assert added == sorted(added, reverse=True)
    assert body["intended_use"] == INTENDED_USE
    with Image.open(tmp_path / "report" / "int8.png") as plot:
        assert plot.size[0] > 500


@pytest.mark.slow
def test_a_file_against_itself_loses_nothing(tmp_path: Path) -> None:
    place = bench(tmp_path, two_branches(None), images=2)
    inputs = [preprocess_file(place.evaluator.dataset.samples[0].path, (SIZE, SIZE))]
    exact = place.evaluator.float_path
    layers = layer_errors("tflite", exact, exact, place.source.quantizer("tflite").operators, inputs)
    assert {layer.snr_db for layer in layers} == {MAX_DB}
    assert {layer.lost_db for layer in layers} == {0.0}
    assert {layer.clipped for layer in layers} == {None}
    assert hints(layers) == []


def test_words() -> None:
    layer = LayerError("backbone/net/block2a_se_excite/Mul;", "MUL", 8.2, 12.4, 0.15, 0.9, 0.02)
    assert short_name(layer.name) == "block2a_se_excite"
    assert hints([layer]) == [
        "MUL in block2a_se_excite loses 12 dB (down to 8 dB); its range clips 2.0 % of the values"
    ]
    assert short_name("backbone_1/net/block1a_bn_1/batchnorm/add_1;x;") == "block1a_bn_1"
    assert short_name("left/Convolution_0") == "left/Convolution_0"
