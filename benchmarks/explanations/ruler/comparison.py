"""All images together: means by criterion with intervals by group, and paired differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sonoedge.benchmarks.explanations.localisation import CENTRE
from sonoedge.benchmarks.explanations.ruler.controls import CONTROLS, EDGES
from sonoedge.benchmarks.explanations.ruler.criteria import CRITERIA
from sonoedge.edge_runtime.explain.methods.table import GRADCAM, METHODS
from sonoedge.train.data.dataset import Dataset
from sonoedge.train.evaluation.bootstrap import mean_interval
from sonoedge.train.evaluation.intervals import Interval

Float = NDArray[np.float64]
BLIND = 0.9
"""A method whose maps are more like those of a random head than this does not explain the decision."""
LOCALISATION = ("pointing", "mass", "rank")


@dataclass(frozen=True)
class MethodRow:
    """One method, or one control, on all images.

    Attributes:
        method: its name; ``title`` as it is shown.
        control: whether it knows nothing of the model.
        criteria: means with 95 % intervals by group, by `CRITERIA`.
        right, wrong: localisation on the images that the model answers rightly, and wrongly.
        versus: mean paired differences from Grad-CAM, the centre prior and the edge detector, by their names and
            criterion.
        zero_maps: images on which nothing speaks for the predicted class.
        calls: mean number of runs of the model for one map; ``head_calls`` of the head alone.
        seconds: median for one map; None for a control.
        early: images on which it stopped early, because the order of the regions stood, or for want of time.
        says: what to make of it, in plain words.
    """

    method: str
    title: str
    control: bool
    criteria: Mapping[str, Interval]
    right: Mapping[str, Interval]
    wrong: Mapping[str, Interval]
    versus: Mapping[str, Mapping[str, Interval]]
    zero_maps: int
    calls: float
    head_calls: float
    seconds: float | None
    early: Mapping[str, int]
    says: str


@dataclass(frozen=True)
class MethodComparison:
    """All methods of one artifact on the same images.

    Attributes:
        artifact: its name.
        images, right, masked, sanity_images: how many there are, are answered rightly, have a mask, and were
            explained with a random head.
        budget: seconds of each map; None if there was no limit.
        rows: methods, then controls.
        agreement: mean rank correlation of two maps of an image, by ``a|b``.
    """

    artifact: str
    images: int
    right: int
    masked: int
    sanity_images: int
    budget: float | None
    rows: Sequence[MethodRow]
    agreement: Mapping[str, float]


def compared(
    artifact: str, dataset: Dataset, steps: Sequence[Mapping[str, Any]], budget: float | None
) -> MethodComparison:
    """Put together what `measure_image` found for each image of a data set, in its order."""
    right = np.array([bool(step["positive"]) == bool(y) for step, y in zip(steps, dataset.y, strict=True)])
    names = list(steps[0]["maps"])
    columns = {name: _columns([step["maps"][name] for step in steps]) for name in names}
    first = columns[names[0]]
    rows = [_row(name, columns, [step["maps"][name] for step in steps], dataset, right) for name in names]
    pairs = {pair: [step["agreement"][pair] for step in steps] for pair in steps[0]["agreement"]}
    return MethodComparison(
        artifact=artifact,
        images=len(steps),
        right=int(right.sum()),
        masked=int((~np.isnan(first["pointing"])).sum()),
        sanity_images=sum(step["maps"][CENTRE]["sanity"] is not None for step in steps),
        budget=budget,
        rows=rows,
        agreement={pair: _mean(values) for pair, values in pairs.items()},
    )


def _columns(found: Sequence[Mapping[str, Any]]) -> dict[str, Float]:
    return {c.name: np.array([one[c.name] for one in found], np.float64) for c in CRITERIA}


def _row(
    name: str,
    columns: Mapping[str, dict[str, Float]],
    found: Sequence[Mapping[str, Any]],
    dataset: Dataset,
    right: NDArray[np.bool_],
) -> MethodRow:
    def means(names: Sequence[str], chosen: NDArray[np.bool_], less: str | None = None) -> dict[str, Interval]:
        part = dataset.select(np.flatnonzero(chosen))
        if not len(part):
            return {}
        values = {key: columns[name][key] - (columns[less][key] if less else 0.0) for key in names}
        return {key: mean_interval(array[chosen], part.y, part.groups) for key, array in values.items()}

    everything, keys = np.ones(len(found), bool), [criterion.name for criterion in CRITERIA]
    control = name in CONTROLS
    criteria = means(keys, everything)
    versus = {
        other: means(keys, everything, less=other)
        for other in (GRADCAM, CENTRE, EDGES)
        if other in columns and other != name
    }
    seconds = None if control else float(np.median([one["seconds"] for one in found]))
    return MethodRow(
        method=name,
        title=name if control else METHODS[name].title,
        control=control,
        criteria=criteria,
        right=means(LOCALISATION, right),
        wrong=means(LOCALISATION, ~right),
        versus=versus,
        zero_maps=sum(one["zero"] for one in found),
        calls=float(np.mean([one.get("calls", 0) for one in found])),
        head_calls=float(np.mean([one.get("head_calls", 0) for one in found])),
        seconds=seconds,
        early={why: sum(one.get("stopped") == why for one in found) for why in ("stable", "time")},
        says="A control: it knows nothing of the model." if control else sentence(versus, criteria["sanity"]),
    )


def sentence(versus: Mapping[str, Mapping[str, Interval]], sanity: Interval | None = None) -> str:
    """What to make of a method, in plain words, from paired differences whose interval leaves out zero.

    ``sanity`` is the likeness of its maps to those of a random head.
    """
    points, weighs = _versus(versus, "pointing"), _versus(versus, "road")
    parts = [
        f"Its peak is in the lesion {_words(points, 'more often than', 'less often than', 'as often as')}.",
        f"Its hot pixels matter to the answer {_words(weighs, 'more than', 'less than', 'as much as')}.",
    ]
    if sanity is not None and sanity.low > BLIND:
        parts.append("But it hardly depends on the decision: a random head gives nearly the same map.")
    elif all(sign > 0 for sign in (*points.values(), *weighs.values())):
        parts.append("Of these maps it is one to look at.")
    elif all(sign <= 0 for sign in points.values()):
        parts.append("Do not read the place of the lesion from it.")
    if GRADCAM in versus:
        better, worse = (_beside_gradcam(versus[GRADCAM], sign) for sign in (1, -1))
        words = "; ".join([f"better in {better}"] * bool(better) + [f"worse in {worse}"] * bool(worse))
        parts.append(f"Beside Grad-CAM: {words or 'no difference that these images show'}.")
    return " ".join(parts)


def _versus(versus: Mapping[str, Mapping[str, Interval]], criterion: str) -> dict[str, int]:
    titles = {CENTRE: "the middle of the picture", EDGES: "edges"}
    return {title: sign_of(versus[name].get(criterion)) for name, title in titles.items() if name in versus}


def _words(signs: Mapping[str, int], more: str, less: str, same: str) -> str:
    by_word: dict[str, list[str]] = {}
    for title, sign in signs.items():
        by_word.setdefault(more if sign > 0 else less if sign < 0 else same, []).append(title)
    return ", ".join(f"{word} {' and '.join(titles)}" for word, titles in by_word.items())


def _beside_gradcam(differences: Mapping[str, Interval], sign: int) -> str:
    return ", ".join(
        criterion.title
        for criterion in CRITERIA
        if criterion.better and sign_of(differences.get(criterion.name)) == sign * criterion.better
    )


def sign_of(difference: Interval | None) -> int:
    """1 above zero, -1 below, 0 if the interval holds zero or there is none."""
    if difference is None:
        return 0
    return 1 if difference.low > 0 else -1 if difference.high < 0 else 0


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else float("nan")
