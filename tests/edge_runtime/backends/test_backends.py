"""A model file that is none becomes one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from sonoedge.edge_runtime.errors import ModelError


@pytest.mark.parametrize("data", [b"", b"garbage" * 30, b"\x08\x07", bytes(100)])
@pytest.mark.parametrize("runtime", ["onnx", "openvino", "tflite"])
def test_a_model_file_that_is_none_is_one_sentence(runtime: str, data: bytes, tmp_path: Path) -> None:
    from sonoedge.edge_runtime.backends import is_available, open_model

    if not is_available(runtime):
        pytest.skip(f"{runtime} is not installed")
    path = tmp_path / {"onnx": "a.onnx", "openvino": "a.xml", "tflite": "a.tflite"}[runtime]
    path.write_bytes(data)
    with pytest.raises(ModelError) as caught:
        open_model(path, runtime)
    assert path.name in str(caught.value)
