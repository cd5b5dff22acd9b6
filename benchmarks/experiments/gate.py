"""How good is the out-of-domain gate? Images of its own kind out of fold, photographs, and other sources.

    python -m sonoedge.benchmarks.experiments.gate --bundle bundle --model runs/busi --data BUSI --photos photos/ \\
        --other uclm=BUS-UCLM --folds cv/folds --out gate.json

Five grouped folds: as `export` does with one split, the gate is fitted on the training part and its limits are set
on the validation part; the test part is counted. Every image is tested once. Images of other sources are checked by
the gates of all five folds, and the means of the shares are reported. For the run's own images distances come from
the float backbones (feature cache of the training); for views and all other images from one artifact of the bundle,
divided by its ratio, as `export.gate.fit` transfers limits. The backbones must be frozen, so that all folds share
them. "Refused" means the whole assessment (`edge_runtime.model.assess`): the gate together with picture quality.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sonoedge.benchmarks.measure.environment import how_made, this_command
from sonoedge.edge_runtime.bundle.manifest import load_bundle
from sonoedge.edge_runtime.errors import DataError, UsageError
from sonoedge.edge_runtime.files import sha256_bytes, sha256_file, write_text_atomic
from sonoedge.edge_runtime.imaging.image import find_images, read_image
from sonoedge.edge_runtime.imaging.quality import hints, measure
from sonoedge.edge_runtime.model.assess import SPEAK_AGAINST_B_MODE
from sonoedge.edge_runtime.model.classifier import Classifier
from sonoedge.edge_runtime.model.gate import features_of
from sonoedge.edge_runtime.types import UInt8Image
from sonoedge.export.cache import read_arrays, write_arrays
from sonoedge.export.convert.splitting import split_model
from sonoedge.export.gate.features import float_features, grey_image, looked_at, view_features
from sonoedge.export.gate.fit import Limits, distances, fit_gate, limits_from, quickest_artifact
from sonoedge.export.gate.images import copies_of
from sonoedge.train.data.dataset import load_dataset
from sonoedge.train.evaluation.intervals import clopper_pearson
from sonoedge.train.evaluation.run_folder import open_run
from sonoedge.train.experiments.cross_validation import make_folds
from sonoedge.train.features.cache import default_cache
from sonoedge.train.models.fusion import load_model
from sonoedge.train.quiet import quiet
from sonoedge.train.records.run_card import TrainedCard

FOLDS = 5


@dataclass(frozen=True)
class Pictures:
    """The results of an artifact on N images of one source.

    Attributes:
        features: float32 (N, C), see `edge_runtime.model.gate.features_of`.
        logits: of the artifact, (N,).
        not_b_mode: whether the picture's quality speaks against B-mode, bool (N,).
        labels: by the folder's name, int64 (N,): 1 for the positive class, 0 for the negative one, -1 for neither.
    """

    features: NDArray[np.float32]
    logits: NDArray[np.float64]
    not_b_mode: NDArray[np.bool_]
    labels: NDArray[np.int64]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("--bundle", type=Path, required=True, help="its quickest artifact sees the images")
    parser.add_argument("--model", type=Path, required=True, metavar="RUN", help="run folder of the bundle")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="images of the run's source")
    parser.add_argument("--photos", type=Path, metavar="DIR", help="photographs, seen in colour and in grey")
    parser.add_argument("--other", action="append", default=[], metavar="NAME=DIR", help="another source")
    parser.add_argument("--limit", type=int, metavar="N", help="at most so many images of each other source")
    parser.add_argument("--folds", type=Path, metavar="DIR", help=(
        "folds folder of cross-validate with the same data and seed: AUC with and without refused images"
    ))  # fmt: skip
    parser.add_argument("--row", default="copies", help="row of cross-validate (default: %(default)s)")
    parser.add_argument("--cache", type=Path, default=Path("gate-cache"), help="default: ./gate-cache")
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the JSON here")
    parser.add_argument("--about-weights", default="the run's", metavar="TEXT", help="for the JSON")
    parser.add_argument("--seed", type=int, default=0, help="of the folds (default: %(default)s)")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure what this module describes; returns a JSON object."""
    bundle, run_folder = load_bundle(args.bundle), open_run(args.model)
    if isinstance(run_folder.card, TrainedCard) and run_folder.card.settings.fine_tune:
        raise UsageError("Out of fold, the gate can be measured for frozen backbones only.")
    others = dict(pair.partition("=")[::2] for pair in args.other)
    dataset = load_dataset(args.data, classes=run_folder.split.labels)
    with quiet():
        model = split_model(load_model(run_folder.path))
    cache, bars = default_cache(), not args.quiet
    index = {sample.sha256: i for i, sample in enumerate(dataset.samples)}
    plain = float_features(model, dataset.samples, cache, progress=bars)
    copies = copies_of(run_folder)
    own = [float_features(model, dataset.samples, cache, copies=copies, progress=bars)] if copies else [plain]
    # Copy by copy: (1 + copies, N, C).
    fitted_on = own[0].reshape(1 + copies, len(dataset), -1)

    classifier = Classifier(bundle, quickest_artifact(bundle).name)
    eye = _Eye(classifier, args.cache, bars)
    seen = {"photos": eye.see("photos", find_images(args.photos)), "photos, grey": eye.see(
        "photos-grey", find_images(args.photos), grey=True
    )} if args.photos else {}  # fmt: skip
    for name, folder in others.items():
        seen[name] = eye.see(name, _some(find_images(folder), args.limit))
    hints_of = np.array([not_b_mode(read_image(sample.path)) for sample in dataset.samples])

    refused, flagged = (np.zeros(len(dataset), bool) for _ in range(2))
    by_gate = refused.copy()
    shares: dict[str, list[list[float]]] = {name: [] for name in seen}
    masks: dict[str, list[NDArray[np.bool_]]] = {name: [] for name in seen}
    limits = []
    for number, fold in enumerate(make_folds(dataset, FOLDS, "grouped", args.seed)):
        train, val, test = ([index[s.sha256] for s in fold[part].samples] for part in ("train", "val", "test"))
        gate = fit_gate(np.concatenate(fitted_on[:, train]), bundle, looked_at(model))
        paths = [dataset.samples[i].path for i in val]
        through = eye.of_paths(f"val-{number}", paths)
        ratio = float(np.median(distances(gate, through) / distances(gate, plain[val])))
        views = eye.of_views(f"views-{number}", paths)
        limit = limits_from(distances(gate, plain[val]), distances(gate, views) / ratio)
        limits.append({"warning": limit.warning, "threshold": limit.threshold, "ratio": ratio})
        inside = distances(gate, plain[test])
        refused[test], flagged[test] = verdicts(inside, limit, hints_of[test])
        by_gate[test] = inside > limit.threshold
        for name, pictures in seen.items():
            found = distances(gate, pictures.features) / ratio
            no, maybe = verdicts(found, limit, pictures.not_b_mode)
            masks[name].append(no)
            shares[name].append([no.mean(), maybe.mean(), (found > limit.threshold).mean(), np.median(found)])
    body: dict[str, Any] = {
        "run": run_folder.path.name,
        "artifact": classifier.artifact.name,
        "copies": copies,
        "limits": limits,
        "out_of_fold": {
            "images": len(dataset),
            "refused": int(refused.sum()),
            "refused_share": _interval(int(refused.sum()), len(dataset)),
            "refused_by_distance": int(by_gate.sum()),
            "flagged": int(flagged.sum()),
        },
        "others": {
            name: {
                "images": len(pictures.features),
                **_means(shares[name]),
                **_aucs(pictures.labels, pictures.logits, masks[name]),
            }
            for name, pictures in seen.items()
        },
    }  # fmt: skip
    if args.folds is not None:
        logits = _out_of_fold_logits(args.folds, args.row, [sample.relative_path for sample in dataset.samples])
        body["out_of_fold"] |= _aucs(dataset.y, logits, [refused])
    return body


class _Eye:
    """Runs an artifact on images once; the results are kept in a folder, by image file and artifact."""

    def __init__(self, classifier: Classifier, cache: Path, bars: bool) -> None:
        self._classifier, self._cache, self._bars = classifier, cache, bars
        backbone = classifier.bundle.path / classifier.artifact.backbone
        self._digest = sha256_file(backbone)[:16]

    def see(self, name: str, paths: Sequence[Path], *, grey: bool = False) -> Pictures:
        """Features and more of image files."""
        if not paths:
            raise DataError(f"No images of {name}.")
        found = self._kept(f"{name} {grey}", paths, lambda: self._compute(name, paths, grey))
        labels = [self._label(path) for path in paths]
        return Pictures(found["features"], found["logits"], found["not_b_mode"], np.array(labels))

    def of_paths(self, name: str, paths: Sequence[Path]) -> NDArray[np.float32]:
        """Features alone."""
        return self.see(name, paths).features

    def of_views(self, name: str, paths: Sequence[Path]) -> NDArray[np.float32]:
        """Features of views of image files, as `export` draws them."""
        return self._kept(
            f"{name} views",
            paths,
            lambda: {"features": view_features(self._classifier, paths, progress=self._bars)},
        )["features"]

    def _label(self, path: Path) -> int:
        bundle = self._classifier.bundle
        return {bundle.positive_label: 1, bundle.negative_label: 0}.get(path.parent.name, -1)

    def _compute(self, name: str, paths: Sequence[Path], grey: bool) -> dict[str, NDArray[Any]]:
        from tqdm import tqdm

        features, logits, doubts = [], [], []
        for path in tqdm(paths, desc=name, unit="img", disable=not self._bars, leave=False):
            image = read_image(path)
            image = grey_image(image) if grey else image
            prediction, outputs = self._classifier.explain_raw(image)
            features.append(features_of(outputs, [branch.name for branch in self._classifier.bundle.branches]))
            logits.append(prediction.logit)
            doubts.append(not_b_mode(image))
        return {"features": np.stack(features), "logits": np.array(logits), "not_b_mode": np.array(doubts)}

    def _kept(
        self, what: str, paths: Sequence[Path], compute: Callable[[], dict[str, NDArray[Any]]]
    ) -> dict[str, NDArray[Any]]:
        described = "\n".join([self._digest, what, *(sha256_file(path) for path in paths)])
        entry = self._cache / f"{sha256_bytes(described.encode())[:32]}.npz"
        found = read_arrays(entry)
        if found is None:
            found = compute()
            write_arrays(entry, **found)
        return found


def not_b_mode(image: UInt8Image) -> bool:
    """Whether the picture's quality speaks against B-mode."""
    return not SPEAK_AGAINST_B_MODE.isdisjoint(hints(image, measure(image)))


def verdicts(
    found: NDArray[np.float64], limit: Limits, doubts: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which images are refused and which flagged, by the rule of `edge_runtime.model.assess`: two bool (N,)."""
    unusual = found > limit.warning
    refused = (found > limit.threshold) | (unusual & doubts)
    return refused, (unusual | doubts) & ~refused


def _some(paths: Sequence[Path], most: int | None) -> list[Path]:
    """At most ``most`` of the paths, the same in every run."""
    chosen = np.sort(np.random.default_rng(0).permutation(len(paths))[:most])
    return [paths[i] for i in chosen]


def _means(shares: Sequence[Sequence[float]]) -> dict[str, float]:
    """Means over the folds' gates."""
    refused, flagged, by_distance, distance = (round(float(x), 4) for x in np.mean(shares, axis=0))
    return {
        "refused": refused, "flagged": flagged, "refused_by_distance": by_distance, "median_distance": distance,
    }  # fmt: skip


def _interval(count: int, images: int) -> list[float]:
    """Share with its 95 % interval (Clopper and Pearson)."""
    found = clopper_pearson(count, images)
    return [round(float(x), 5) for x in (found.value, found.low, found.high)]


def _aucs(
    labels: NDArray[np.int64], logits: NDArray[np.float64], masks: Sequence[NDArray[np.bool_]]
) -> dict[str, float | None]:
    """AUC of all labelled images, and of those that are not refused (mean over the masks)."""
    from sklearn.metrics import roc_auc_score

    def auc(kept: NDArray[np.bool_]) -> float:
        kept = kept & (labels >= 0)
        return float(roc_auc_score(labels[kept], logits[kept])) if len(set(labels[kept].tolist())) == 2 else np.nan

    everything = auc(np.ones(len(labels), bool))
    if np.isnan(everything):
        return {}
    answered = float(np.nanmean([auc(~mask) for mask in masks]))
    return {"auc": round(everything, 4), "auc_of_answered": None if np.isnan(answered) else round(answered, 4)}


def _out_of_fold_logits(folder: Path, row: str, images: Sequence[str]) -> NDArray[np.float64]:
    """Logits of ``sonoedge cross-validate``, image by image."""
    found: dict[str, float] = {}
    for path in sorted(folder.glob(f"{row}.grouped.*.json")):
        part = json.loads(path.read_text(encoding="utf-8"))
        found |= dict(zip(part["images"], part["logits"], strict=True))
    if missing := [image for image in images if image not in found]:
        raise DataError(f"{folder} lacks logits of {len(missing)} images, for example {missing[0]}.")
    return np.array([found[image] for image in images])


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m sonoedge.benchmarks.experiments.gate", description=__doc__.split("\n")[0]
    )
    add_arguments(parser)
    args = parser.parse_args()
    made = how_made([this_command("python -m sonoedge.benchmarks.experiments.gate")], weights=args.about_weights)
    text = json.dumps(made | run(args), indent=1)
    if args.out:
        write_text_atomic(args.out, text + "\n")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
