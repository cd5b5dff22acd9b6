"""OpenVINO takes its activation ranges from the tensors that LiteRT has too."""

from __future__ import annotations

import numpy as np
import pytest

from sonoedge.export.convert.graphs import read_openvino
from sonoedge.export.quantize.quantization import (
    quantize_openvino,
    quantized_tensors,
)
from sonoedge.export.quantize.recorders import OpenVINORecorder, TFLiteRecorder, same_tensors
from tests.helpers.int8_models import Bench


def test_openvino_finds_its_tensors_among_litert_s(vino: Bench) -> None:
    """Under other names and in another order of axes they hold the same values."""
    source = vino.source
    names = quantized_tensors(
        quantize_openvino(read_openvino(source.openvino_float), source.activations.first(1)[0])
    )
    ours = OpenVINORecorder(read_openvino(source.openvino_float), names)
    theirs = TFLiteRecorder(source.tflite_float)
    found = same_tensors(ours, theirs, source.activations.first(2))
    assert set(found) == set(names)
    third = source.activations.first(3)[-1]
    mine = dict(zip(names, ours.values(third), strict=True))
    for name, other in found.items():
        values = theirs.values(third)[theirs.names.index(other)].copy()
        np.testing.assert_allclose(np.sort(mine[name]), np.sort(values), rtol=1e-3, atol=1e-3)


def test_a_tensor_that_litert_does_not_have_is_recorded_in_openvino(
    vino: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = vino.source.quantizer("openvino").statistics
    found = same_tensors
    lost = known.names[2]
    monkeypatch.setattr(
        "sonoedge.export.quantize.activations.same_tensors",
        lambda *a: {n: t for n, t in found(*a).items() if n != lost},
    )
    again = vino.source.quantizer("openvino").statistics
    assert set(again.names) == set(known.names) and again.names[-1] == lost
    for ends in ("minima", "maxima"):
        np.testing.assert_allclose(getattr(again, ends)[:, -1], getattr(known, ends)[:, 2], rtol=1e-3, atol=1e-3)
