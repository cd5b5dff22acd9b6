"""The paper's experiments: every system under the paper's protocol and under an honest one, resumable.

A *unit* is one system under one protocol. Each finished unit is a JSON file under ``<out>/units``, with a
fingerprint of all that decides it. If `reproduce` is called again, it computes only units that are missing or were
computed from something else. A backbone runs once on the images, for all systems that use it
(`train.features.cache`).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import keras
import numpy as np
from numpy.typing import NDArray

from sonoedge.edge_runtime.errors import DataError, ModelError
from sonoedge.edge_runtime.files import sha256_bytes, sha256_file, write_text_atomic
from sonoedge.train.data.dataset import Dataset, load_dataset
from sonoedge.train.data.split import SUBSETS, Strategy, apply_split, leak_count, make_split
from sonoedge.train.evaluation.intervals import Interval
from sonoedge.train.evaluation.metrics import classification_metrics, sigmoid
from sonoedge.train.evaluation.results import History
from sonoedge.train.evaluation.thresholds import steady_threshold
from sonoedge.train.experiments.systems import SYSTEMS
from sonoedge.train.features.cache import Features, extract_features
from sonoedge.train.fitting.feature_set import FeatureSet
from sonoedge.train.fitting.heads import DEFAULT_GRID, FitResult, fit_default, fit_paper, head_logits
from sonoedge.train.models.backbones import imagenet_available, weights_file
from sonoedge.train.models.fusion import Head, build_head, build_model
from sonoedge.train.records.reader import plain
from sonoedge.train.records.settings import PAPER

Protocol = Literal["paper", "honest"]
STRATEGIES: dict[Protocol, Strategy] = {"paper": "paper", "honest": "grouped"}
"""``paper``: single images split at random, Table II, threshold 0.5. ``honest``: split by source image or patient,
head by logistic regression, threshold from validation."""
_VERSION = 2
_UNITS = "units"


@dataclass(frozen=True)
class ReproduceSettings:
    """Everything that decides the experiments; see ``sonoedge reproduce --help`` for what the fields mean."""

    data: str
    systems: tuple[str, ...]
    weights: str = "imagenet"
    classes: tuple[str, ...] | None = None
    skip_unreadable: bool = False
    untrained_images: int = 200
    input_size: int = 224
    seed: int = 0


@dataclass(frozen=True)
class Unit:
    """One system under one protocol, on its test images.

    Attributes:
        system: key of `train.experiments.systems.SYSTEMS`.
        protocol: key of `STRATEGIES`.
        sources: per backbone ``imagenet``, ``file`` (from ``--weights DIR``) or ``none`` (untrained).
        images: number of images by subset.
        leaks: test images that share their source or patient with an image in train.
        threshold: probability.
        metrics: by the names of `train.evaluation.metrics.METRIC_NAMES`, with 95 % intervals.
        histories: one per head; only ensembles of probabilities have several heads.
        test_images: relative paths.
        y, logits, groups: of the test images, in the same order.
        seconds: wall-clock time.
    """

    system: str
    protocol: Protocol
    sources: Mapping[str, str]
    images: Mapping[str, int]
    leaks: int
    threshold: float
    metrics: Mapping[str, Interval]
    histories: Sequence[History]
    test_images: Sequence[str]
    y: Sequence[int]
    logits: Sequence[float]
    groups: Sequence[str]
    seconds: float

    @property
    def trained(self) -> bool:
        """Whether all backbones had trained weights; if not, the metrics mean nothing."""
        return "none" not in self.sources.values()


def reproduce(
    settings: ReproduceSettings,
    out: Path,
    *,
    cache: Path,
    progress: bool = True,
    say: Callable[[str], None] = print,
) -> tuple[Dataset, list[Unit]]:
    """Run every system under every protocol that is not finished yet.

    Args:
        settings: of all units.
        out: folder of the results.
        cache: folder of cached features.
        progress: show bars.
        say: prints a line after each unit.

    Returns:
        The data set, and all units in the order of the systems.

    Raises:
        DataError: the data cannot be used.
        ModelError: no such weights folder, or a weights file that is there but does not fit.
    """
    if settings.weights not in {"imagenet", "none"} and not Path(settings.weights).is_dir():
        raise ModelError(f"--weights takes imagenet, none or a folder. No such folder: {settings.weights}")
    dataset = load_dataset(
        settings.data, classes=settings.classes, skip_unreadable=settings.skip_unreadable, progress=progress
    )
    if len(dataset.labels) != 2:
        raise DataError(f"The systems are binary. Classes: {', '.join(dataset.labels)}; choose two with --classes.")
    for note in dataset.notes:
        say(f"note: {note}")
    lab = _Lab(settings, dataset, cache, progress)
    units = []
    for system in settings.systems:
        for protocol in STRATEGIES:
            path = out / _UNITS / f"{system}.{protocol}.json"
            fingerprint = lab.fingerprint(system, protocol)
            unit = _read(path, fingerprint)
            if unit is None:
                unit = lab.run(system, protocol)
                document = {"fingerprint": fingerprint, "unit": asdict(unit)}
                write_text_atomic(path, json.dumps(document) + "\n")
            accuracy, auc = (unit.metrics[name].value for name in ("accuracy", "auc"))
            mark = "" if unit.trained else "   untrained backbones: enters no comparison"
            say(f"{system:<28}{protocol:<8}accuracy {accuracy:.3f}  AUC {auc:.3f}{mark}")
            units.append(unit)
    return dataset, units


class _Lab:
    """Data, features and weights; each is loaded once, and only when a unit needs it."""

    def __init__(self, settings: ReproduceSettings, dataset: Dataset, cache: Path, progress: bool) -> None:
        self._settings, self._cache, self._progress = settings, cache, progress
        self._full = dataset
        self._few = subsample(dataset, settings.untrained_images, settings.seed)
        self._sources: dict[str, str] = {}
        self._features: dict[tuple[str, bool], dict[str, Features]] = {}

    def fingerprint(self, system: str, protocol: Protocol) -> str:
        """Digest of everything that decides a unit."""
        plan, sources = SYSTEMS[system], self._sources_of(system)
        groups = sorted((sample.sha256, sample.group) for sample in self._data(sources).samples)
        files = {
            name: sha256_file(weights_file(self._settings.weights, name))
            for name, source in sources.items()
            if source == "file"
        }
        fit = plain(PAPER) if protocol == "paper" else [plain(fit) for fit in DEFAULT_GRID]
        settings = [self._settings.input_size, self._settings.seed]
        described = [_VERSION, plan.backbones, plan.join, protocol, sources, files, groups, fit, settings]
        return sha256_bytes(json.dumps(described, sort_keys=True).encode())

    def run(self, system: str, protocol: Protocol) -> Unit:
        """Train and test one system under one protocol."""
        started = perf_counter()
        plan, sources = SYSTEMS[system], self._sources_of(system)
        data = self._data(sources)
        split = make_split(data, strategy=STRATEGIES[protocol], seed=self._settings.seed)
        subsets = apply_split(data, split)
        features = {name: self._features_of(name, sources) for name in plan.backbones}
        members = [[name] for name in plan.backbones] if plan.join == "probabilities" else [list(plan.backbones)]
        histories, logits = [], defaultdict(list)
        for names in members:
            sets = {subset: _rows(features, names, subsets[subset]) for subset in SUBSETS}
            keras.utils.set_random_seed(self._settings.seed)
            head = build_head({name: x.shape[1:] for name, x in sets["train"].features.items()})
            result = self._fit(head, sets["train"], sets["val"], protocol)
            histories.append(result.history)
            for subset in ("val", "test"):
                logits[subset].append(head_logits(head, sets[subset]))
        joined = {subset: mean_probability(parts) for subset, parts in logits.items()}
        threshold = 0.5 if protocol == "paper" else steady_threshold(subsets["val"].y, joined["val"])
        test = subsets["test"]
        return Unit(
            system,
            protocol,
            sources,
            {subset: len(subsets[subset]) for subset in SUBSETS},
            leak_count(split, subsets=("test",)),
            threshold,
            classification_metrics(test.y, joined["test"], threshold=threshold, groups=test.groups),
            histories,
            [sample.relative_path for sample in test.samples],
            test.y.tolist(),
            [round(float(logit), 6) for logit in joined["test"]],
            test.groups,
            round(perf_counter() - started, 2),
        )

    def _fit(self, head: Head, train: FeatureSet, val: FeatureSet, protocol: Protocol) -> FitResult:
        seed, progress = self._settings.seed, self._progress
        if protocol == "paper":
            return fit_paper(head, train, val, seed=seed, progress=progress)
        return fit_default(head, train, val, seed=seed, progress=progress, grid=DEFAULT_GRID)

    def _data(self, sources: Mapping[str, str]) -> Dataset:
        return self._few if "none" in sources.values() else self._full

    def _sources_of(self, system: str) -> dict[str, str]:
        return {name: self._source(name) for name in SYSTEMS[system].backbones}

    def _source(self, name: str) -> str:
        if name not in self._sources:
            weights = self._settings.weights
            if weights == "imagenet":
                self._sources[name] = "imagenet" if imagenet_available(name) else "none"
            elif weights == "none":
                self._sources[name] = "none"
            else:
                self._sources[name] = "file" if weights_file(weights, name).is_file() else "none"
        return self._sources[name]

    def _features_of(self, name: str, sources: Mapping[str, str]) -> dict[str, Features]:
        """Pooled features by image digest: of all images if the whole system is trained, else of a few."""
        data = self._data(sources)
        key = (name, data is self._full)
        if key not in self._features:
            source = sources[name]
            # Untrained weights must be the same in the next call, or nothing could be resumed.
            keras.utils.set_random_seed(self._settings.seed)
            weights = self._settings.weights if source == "file" else source
            model = build_model([name], weights=weights, input_size=(self._settings.input_size,) * 2)
            found = extract_features(model.branches, data.samples, cache=self._cache, progress=self._progress)
            digests = [sample.sha256 for sample in data.samples]
            self._features[key] = dict(zip(digests, found[name], strict=True))
        return self._features[key]


def subsample(dataset: Dataset, count: int, seed: int) -> Dataset:
    """About ``count`` images (0: all) in whole groups, with the classes in their proportions."""
    if not 0 < count < len(dataset):
        return dataset
    rng = np.random.default_rng(seed)
    order = rng.permutation(sorted(set(dataset.groups)))
    rank = {group: i for i, group in enumerate(order.tolist())}
    chosen: list[int] = []
    for label in range(len(dataset.labels)):
        mine = [i for i, sample in enumerate(dataset.samples) if sample.label == label]
        wanted = round(count * len(mine) / len(dataset))
        mine.sort(key=lambda i: rank[dataset.samples[i].group])
        last = dataset.samples[mine[max(wanted, 1) - 1]].group
        chosen += [i for i in mine if rank[dataset.samples[i].group] <= rank[last]]
    return dataset.select(sorted(chosen))


def mean_probability(logits: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Logits (N,) of the mean probability of several models; those of a single model stay as they are.

    Args:
        logits: of each model, (N,).
    """
    if len(logits) == 1:
        return logits[0]
    mean = np.clip(np.mean([sigmoid(x) for x in logits], axis=0), 1e-12, 1 - 1e-12)
    return np.asarray(np.log(mean) - np.log1p(-mean))


def _rows(features: Mapping[str, Mapping[str, Features]], names: Sequence[str], data: Dataset) -> FeatureSet:
    arrays = {name: np.stack([features[name][sample.sha256] for sample in data.samples]) for name in names}
    return FeatureSet(arrays, data.y)


def _read(path: Path, fingerprint: str) -> Unit | None:
    """A finished unit; None if it is missing, damaged, or of other settings."""
    try:
        document: Any = json.loads(path.read_text(encoding="utf-8"))
        if document["fingerprint"] != fingerprint:
            return None
        values = document["unit"]
        values["metrics"] = {name: Interval(**interval) for name, interval in values["metrics"].items()}
        return Unit(**values)
    except (OSError, ValueError, KeyError, TypeError):
        return None
