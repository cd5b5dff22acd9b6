"""The frozen-feature cache: each frozen backbone sees each image once, ever.

Layout: ``<cache>/<key>/<sha256 of the file>.npz``, one shard per 64 images with arrays ``rows`` (image digest and
copy number) and ``features``. The key is a digest of everything that decides the features: weights, graph, input
size, preprocessing. Shards are written atomically and named by their own digest, so that an interrupted run loses
at most one shard, a damaged one is found and recomputed, and two data sets that share images share features.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from time import perf_counter
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from sonoedge.edge_runtime.files import sha256_bytes, write_bytes_atomic
from sonoedge.edge_runtime.imaging.image import read_image, resize
from sonoedge.train.callbacks import FeaturesComputed, tell
from sonoedge.train.data.dataset import Sample
from sonoedge.train.features.augment import VERSION as AUGMENT_VERSION
from sonoedge.train.features.augment import augmented_copy
from sonoedge.train.features.input_wait import InputWait, prefetched
from sonoedge.train.models.backbones import weights_digest
from sonoedge.train.terminal import LOG

_KEY_VERSION = 3
"""Raise it when cached features may be wrong. (Keys once described a nested model by name and weights alone.)"""
_UNIMPORTANT = ("name", "trainable", "_initializer", "_regularizer", "_constraint")
"""Ends of the names of settings that do not decide what a layer computes."""
SHARD_IMAGES = 64
"""Images in one file of the cache."""
TIMED_FROM = 200
"""Images from which on `cost_in_words` measures the time."""
_BATCH = 16

Features = NDArray[np.float32]


def default_cache() -> Path:
    """The usual folder: ``$XDG_CACHE_HOME/sonoedge/features``, by default under ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sonoedge" / "features"


def extract_features(
    branches: dict[str, keras.Model],
    samples: Sequence[Sample],
    *,
    cache: Path,
    copies: int = 0,
    progress: bool = False,
    input_wait: InputWait | None = None,
) -> dict[str, Features]:
    """Features of images and of their augmented copies: read from the cache, or else computed and added to it.

    Args:
        branches: per backbone, a model image (N, H, W, 3) -> features (N, …); all with the same input size.
        samples: N images.
        cache: folder of the cache.
        copies: augmented copies per image, appended copy by copy.
        progress: show a bar on stderr.
        input_wait: adds up how long the backbones waited for images, if some are computed.

    Returns:
        Per backbone float32 (N * (1 + copies), …): first all images in order, then all first copies, ….

    Raises:
        ImageError: an image cannot be decoded.
        OSError: the cache cannot be written, for example because the disk is full.
    """
    rows = with_copies(samples, copies)
    names = [_row_name(sample, copy) for sample, copy in rows]
    folders = {name: cache / _cache_key(branch) for name, branch in branches.items()}
    known = {name: _read_shards(folder) for name, folder in folders.items()}
    missing = [i for i, row in enumerate(names) if any(row not in known[name] for name in branches)]
    unique = list({names[i]: i for i in missing}.values())
    size = next(iter(branches.values())).input_shape[1:3]
    input_wait = input_wait or InputWait()
    done = 0
    with tqdm(total=len(unique), desc="features", unit="img", disable=not progress or not unique) as bar:

        def advance(count: int) -> None:
            nonlocal done
            done += count
            bar.update(count)
            tell(FeaturesComputed(done, len(unique)))

        for start in range(0, len(unique), SHARD_IMAGES):
            shard = [rows[i] for i in unique[start : start + SHARD_IMAGES]]
            shard_names = [_row_name(sample, copy) for sample, copy in shard]
            # A backbone that knows these rows, perhaps from another model, does not see them again.
            asked = {n: b for n, b in branches.items() if any(row not in known[n] for row in shard_names)}
            computed = _run(asked, shard, size, advance, input_wait)
            for name, features in computed.items():
                _write_shard(folders[name], shard_names, features)
                known[name].update(zip(shard_names, features, strict=True))
    return {name: np.stack([known[name][row] for row in names]) for name in branches}


def cost_in_words(
    branches: dict[str, keras.Model], samples: Sequence[Sample], copied: Sequence[Sample], copies: int, cache: Path
) -> str | None:
    """How long computing the features will take here, from one timed batch; None if the cache has them all.

    Below `TIMED_FROM` images the text gives only their number: timing would take as long as some of them.

    Args:
        branches: as for `extract_features`.
        samples: images that are wanted as they are.
        copied: images of which ``copies`` augmented copies are wanted.
        copies: augmented copies of each.
        cache: folder of the cache.
    """
    rows = [_row_name(sample, 0) for sample in samples]
    rows += [_row_name(sample, copy) for copy in range(1, copies + 1) for sample in copied]
    known = {name: _read_shards(cache / _cache_key(branch)) for name, branch in branches.items()}
    missing = {name: sum(row not in shards for row in set(rows)) for name, shards in known.items()}
    if not any(missing.values()):
        return None
    copied_text = f" and {copies * len(copied)} augmented copies" if copies else ""
    words = f"features of {len(samples)} images{copied_text}, {max(missing.values())} of them not in the cache"
    if max(missing.values()) < TIMED_FROM:
        return words
    seconds = 0.0
    for name, branch in branches.items():
        batch = np.zeros((_BATCH, *branch.input_shape[1:]), np.float32)
        branch.predict_on_batch(batch)  # the first call compiles
        started = perf_counter()
        branch.predict_on_batch(batch)
        seconds += (perf_counter() - started) / _BATCH * missing[name]
    took = f"{seconds / 60:.0f} minutes" if seconds > 90 else f"{seconds:.0f} s"
    return f"{words}: about {took} here"


def compute_features(
    branches: dict[str, keras.Model], samples: Sequence[Sample], *, copies: int = 0
) -> dict[str, Features]:
    """What `extract_features` returns, computed without the cache: per backbone float32 (N * (1 + copies), …)."""
    size = next(iter(branches.values())).input_shape[1:3]
    return _run(branches, with_copies(samples, copies), size, lambda count: None, InputWait())


def with_copies(samples: Sequence[Sample], copies: int) -> list[tuple[Sample, int]]:
    """Images with the number of the copy, 0 for the image itself: first all images, then all first copies, …."""
    return [(sample, copy) for copy in range(copies + 1) for sample in samples]


def _run(
    branches: dict[str, keras.Model],
    rows: Sequence[tuple[Sample, int]],
    size: tuple[int, int],
    advance: Callable[[int], None],
    input_wait: InputWait,
) -> dict[str, Features]:
    def load(start: int) -> NDArray[np.float32]:
        return np.stack([load_input(sample, copy, size) for sample, copy in rows[start : start + _BATCH]])

    parts: dict[str, list[Features]] = {name: [] for name in branches}
    for _, batch in prefetched(load, range(0, len(rows), _BATCH), input_wait):
        filled = len(batch)
        if filled < _BATCH:
            # One batch shape only: Keras would compile the model again for a second.
            batch = np.concatenate([batch, np.zeros((_BATCH - filled, *batch.shape[1:]), batch.dtype)])
        for name, branch in branches.items():
            parts[name].append(np.asarray(branch.predict_on_batch(batch), np.float32)[:filled])
        input_wait.images += filled
        advance(filled)
    return {name: np.concatenate(chunks) for name, chunks in parts.items()}


def load_input(sample: Sample, copy: int, size: tuple[int, int]) -> NDArray[np.float32]:
    """One image, or an augmented copy of it, as model input float32 (H, W, 3), 0–255.

    Args:
        sample: the image.
        copy: number of the copy; 0 for the image itself.
        size: (height, width) in pixels.

    Raises:
        ImageError: the image cannot be decoded.
    """
    image = resize(read_image(sample.path), size)
    return (augmented_copy(image, sample.sha256, copy) if copy else image).astype(np.float32)


def _row_name(sample: Sample, copy: int) -> str:
    return f"{sample.sha256}:{AUGMENT_VERSION}.{copy}" if copy else sample.sha256


def _cache_key(branch: keras.Model) -> str:
    """Digest of a branch: its graph with every layer's settings, its weights, and the precision it computes in."""
    described = json.dumps([_KEY_VERSION, _described(branch.get_config())], sort_keys=True, default=str)
    policy = keras.config.dtype_policy().name
    return hashlib.sha256("\n".join([described, weights_digest(branch), policy]).encode()).hexdigest()[:32]


def _described(model: Mapping[str, Any]) -> dict[str, Any]:
    """A model's configuration, nested models included, without the settings that do not decide its results.

    A layer is called by its number, since Keras counts up the names of layers within a process.
    """
    numbers = {layer["name"]: number for number, layer in enumerate(model["layers"])}

    def numbered(value: Any) -> Any:
        """How layers are connected: ``[name, 0, 0]`` says which layer's output is meant."""
        if isinstance(value, dict):
            return {key: numbered(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [numbered(item) for item in value]
        return numbers.get(value, value) if isinstance(value, str) else value

    layers = []
    for layer in model["layers"]:
        config = layer["config"]
        if "layers" in config:
            own = _described(config)
        else:
            own = {name: value for name, value in config.items() if not name.endswith(_UNIMPORTANT)}
        layers.append([layer["class_name"], own, numbered(layer["inbound_nodes"])])
    return {
        "layers": layers,
        "inputs": numbered(model["input_layers"]),
        "outputs": numbered(model["output_layers"]),
    }


def _read_shards(folder: Path) -> dict[str, Features]:
    """A copy of the features in a folder's shards. Shards never change, so the last few folders stay in memory."""
    paths = sorted(folder.glob("*.npz"))
    return dict(_known(tuple((path, path.stat().st_mtime_ns) for path in paths if path.exists())))


@lru_cache(maxsize=4)
def _known(shards: tuple[tuple[Path, int], ...]) -> dict[str, Features]:
    known: dict[str, Features] = {}
    for path, _ in shards:
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            continue  # found damaged and removed by another process
        if sha256_bytes(data) != path.stem:
            LOG.warning(f"the cached features {path.name} are damaged and will be computed again.")
            path.unlink(missing_ok=True)
            continue
        with np.load(io.BytesIO(data)) as shard:
            known.update(zip(shard["rows"].tolist(), shard["features"], strict=True))
    return known


def _write_shard(folder: Path, rows: Sequence[str], features: Features) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, rows=np.array(rows), features=features)
    write_bytes_atomic(folder / f"{sha256_bytes(buffer.getvalue())}.npz", buffer.getvalue())
