"""Measures candidates: validation images, the float head and the float32 backbone of one runtime.

Logits are kept in a content-addressed cache: a candidate that was measured before is not run again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from tqdm import tqdm

from sonoedge.edge_runtime.backends import Runner, open_model
from sonoedge.edge_runtime.files import sha256_bytes, sha256_file
from sonoedge.edge_runtime.model.classifier import preprocess_file
from sonoedge.edge_runtime.model.gate import features_of
from sonoedge.edge_runtime.types import Float32Array
from sonoedge.export.cache import Arrays, read_arrays, write_arrays
from sonoedge.export.guard.comparison import Comparison, Logits, compare
from sonoedge.train.data.dataset import Dataset

SCREENED_IMAGES = 256
"""Validation images on which a candidate is measured branch by branch, at most."""
SEARCH_IMAGES = 24
"""Validation images on which the harm of a branch or an operator is measured, at most."""
CHECKED_IMAGES = 16
"""Validation images on which a whole file is compared with its branches, at most."""
PARTS_TOLERANCE = 1e-3
"""Largest difference in the logit between a whole file and the same file run branch by branch."""
_VERSION = "3"
_KEPT_FILES = 6
"""Files of each branch whose maps stay in memory: as many as a search goes back to."""


class Evaluator:
    """Measures candidates against float32.

    Args:
        dataset: validation images.
        size: (height, width) of the input.
        runtime: of all files.
        head, float_backbone: float32 files.
        threshold: probability threshold of the full model.
        cache: folder for logits.
        threads: for the interpreter; None: its default.
        progress: show bars.
    """

    def __init__(
        self,
        dataset: Dataset,
        size: tuple[int, int],
        runtime: str,
        head: Path,
        float_backbone: Path,
        threshold: float,
        *,
        cache: Path,
        threads: int | None = None,
        progress: bool = False,
    ) -> None:
        self.dataset, self.runtime, self.threshold = dataset, runtime, threshold
        self._size, self._cache, self._threads, self._progress = size, cache, threads, progress
        self._head_path = head
        self._head = open_model(head, runtime, threads=1)
        self.float_path, self.float_runner = float_backbone, self.open(float_backbone)
        interpreter = self.float_runner.device["interpreter"]
        self._context = "\n".join([_VERSION, interpreter, str(size), *map(_content, (head, float_backbone))])
        # Spread over the set, and the same ones in every run.
        order = np.random.default_rng(0).permutation(len(dataset))
        self._screened = [int(i) for i in order[:SCREENED_IMAGES]]
        self._known_maps: dict[tuple[str, str], list[Float32Array]] = {}

    @property
    def branches(self) -> tuple[str, ...]:
        """Outputs of the backbone."""
        return tuple(self.float_runner.output_shapes)

    def open(self, path: Path) -> Runner:
        """Open a backbone.

        Raises:
            ModelError: the interpreter refuses it.
        """
        return open_model(path, self.runtime, threads=self._threads)

    def sample(self) -> Float32Array:
        """One model input, for timing: float32 (1, height, width, 3), 0–255."""
        return preprocess_file(self.dataset.samples[0].path, self._size)

    @cached_property
    def reference(self) -> Logits:
        """Logits (N,) of float32."""
        return self._whole(self.float_path, self.float_runner, "float32 on validation")["logits"]

    def on(self, dataset: Dataset) -> Evaluator:
        """The same evaluator on other images."""
        return Evaluator(
            dataset,
            self._size,
            self.runtime,
            self._head_path,
            self.float_path,
            self.threshold,
            cache=self._cache,
            threads=self._threads,
            progress=self._progress,
        )

    def logits(self, path: Path, runner: Runner, name: str) -> Logits:
        """Logits (N,) of an open backbone on all images.

        Args:
            path: its file.
            runner: the open backbone.
            name: of the progress bar.
        """
        return self._whole(path, runner, name)["logits"]

    def features(self, path: Path, runner: Runner, branches: Sequence[str]) -> dict[str, Float32Array]:
        """The gate's features (`edge_runtime.model.gate.features_of`) of all images: (C,) by digest of the image.

        If the backbone has been compared, they are in the cache.
        """
        found = self._whole(path, runner, "features")
        rows = np.concatenate([found[branch] for branch in branches], axis=1)
        return {sample.sha256: row for sample, row in zip(self.dataset.samples, rows, strict=True)}

    def compare(self, path: Path, runner: Runner, name: str, parts: Mapping[str, Path] | None = None) -> Comparison:
        """Measure an open candidate on all validation images.

        Args:
            path: its file.
            runner: the open candidate.
            name: of the progress bar.
            parts: its files of single branches; branches without a file are float32. They are used if the screened
                images are all images: if then the whole file gives the same logits on `CHECKED_IMAGES`, it is not
                run on the others.
        """
        found = self._whole(path, runner, name, parts)
        return compare(self.dataset, self.reference, self.threshold, found["logits"])

    def screen(self, files: Mapping[str, Path], *, images: int = SCREENED_IMAGES) -> Comparison:
        """Predict a candidate from files of single branches; branches without a file count as float32.

        Args:
            files: one-branch backbones by branch.
            images: how many of the screened images.

        Raises:
            ModelError: the interpreter refuses a file.
        """
        chosen = self._screened[:images]
        described = [f"{branch} {_content(files[branch])}" for branch in sorted(files)]

        def compute() -> Arrays:
            logits = [self._logit(maps) for maps in self._maps_of_parts(files, len(chosen))]
            return {"logits": np.array(logits, np.float64)}

        logits = self._cached(["screen", *described], chosen, compute)["logits"]
        return compare(self.dataset.select(chosen), self.reference[chosen], self.threshold, logits)

    @cached_property
    def _float_maps(self) -> Sequence[Mapping[str, Float32Array]]:
        bar = tqdm(self._screened, desc="float32 maps", unit="img", disable=not self._progress, leave=False)
        return [self.float_runner.run({"image": preprocess_file(self._path(i), self._size)}) for i in bar]

    def _branch_maps(self, branch: str, path: Path, count: int) -> Sequence[Float32Array]:
        """Maps of one branch on the first screened images; maps of each branch's last files stay in memory.

        A search changes one branch at a time. So the others, which may be the slow ones, are not run again.
        """
        key = (branch, _content(path))
        maps = self._known_maps.pop(key, [])
        if len(maps) < count:
            runner = self.open(path)
            images = (preprocess_file(self._path(i), self._size) for i in self._screened[len(maps) : count])
            maps += [runner.run({"image": image})[branch] for image in images]
        self._known_maps[key] = maps  # at the end: the dictionary is in the order of use
        used = [known for known in self._known_maps if known[0] == branch]
        for old in used[:-_KEPT_FILES]:
            del self._known_maps[old]
        return maps

    def _whole(self, path: Path, runner: Runner, name: str, parts: Mapping[str, Path] | None = None) -> Arrays:
        """Results on all images: ``logits`` (N,), and by branch the features of `features_of` (N, C)."""
        # The search has run float32 on the screened images already.
        searched = self.__dict__.get("_float_maps", ()) if runner is self.float_runner else ()
        known: dict[int, Mapping[str, Float32Array]] = dict(zip(self._screened, searched, strict=False))

        def run_whole(number: int) -> Mapping[str, Float32Array]:
            return runner.run({"image": preprocess_file(self._path(number), self._size)})

        def compute() -> Arrays:
            logits: list[float] = []
            features: dict[str, list[Float32Array]] = {branch: [] for branch in self.branches}
            if parts and len(self._screened) == len(self.dataset):
                together = dict(zip(self._screened, self._maps_of_parts(parts, len(self._screened)), strict=True))
                checked = {i: run_whole(i) for i in self._screened[:CHECKED_IMAGES]}
                differences = [self._logit(maps) - self._logit(together[i]) for i, maps in checked.items()]
                known.update(together if np.abs(differences).max() <= PARTS_TOLERANCE else checked)
            for number in tqdm(everything, desc=name, unit="img", disable=not self._progress, leave=False):
                maps = known[number] if number in known else run_whole(number)
                logits.append(self._logit(maps))
                for branch, rows in features.items():
                    rows.append(features_of({f"map_{branch}": maps[branch]}, [branch]))
            return {"logits": np.array(logits, np.float64)} | {b: np.stack(rows) for b, rows in features.items()}

        everything = list(range(len(self.dataset)))
        return self._cached(["whole", _content(path)], everything, compute)

    def _maps_of_parts(self, parts: Mapping[str, Path], count: int) -> Iterator[Mapping[str, Float32Array]]:
        """All maps of a candidate on the first screened images, from its files of single branches."""
        own = {branch: self._branch_maps(branch, path, count) for branch, path in parts.items()}
        for place in range(count):
            yield {**self._float_maps[place], **{branch: maps[place] for branch, maps in own.items()}}

    def _cached(self, key: Sequence[str], images: Sequence[int], compute: Callable[[], Arrays]) -> Arrays:
        digests = [self.dataset.samples[i].sha256 for i in images]
        described = "\n".join([self._context, *key, *digests])
        path = self._cache / f"logits-{sha256_bytes(described.encode())[:32]}.npz"
        if (known := read_arrays(path)) is not None:
            return known
        arrays = compute()
        write_arrays(path, **arrays)
        return arrays

    def _path(self, number: int) -> Path:
        return self.dataset.samples[number].path

    def _logit(self, maps: Mapping[str, Float32Array]) -> float:
        return float(self._head.run(maps)["logit"].reshape(()))


def _content(path: Path) -> str:
    """Digest of a model file; of both files for OpenVINO, which keeps the weights in a second one."""
    weights = path.with_suffix(".bin")
    files = [path, weights] if path.suffix == ".xml" else [path]
    return " ".join(sha256_file(file) for file in files)
