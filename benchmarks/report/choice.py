"""Several bundles on one front, and one recommended file for each kind of device.

Files are compared if they were measured alike: on the same images and machine, with the same number of threads. All
are compared with one model, the full model of the first run; a student, for example, with its teacher.

The recommended file is the fastest that keeps 99 % of this model's accuracy and loses at most 0.01 of its AUC, by
point estimate. The reason states the verdict of the interval, the number of decisions that differ, and which file
to take if decisions must not differ. Milliseconds are those measured on a device of the kind, if there are any;
else they are estimated from multiply-adds (`benchmarks.report.boards`), and the reason says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sonoedge.benchmarks.records.runfile import Candidate, Machine
from sonoedge.benchmarks.report.boards import BOARDS, PHONE, Board
from sonoedge.benchmarks.retention.regression import machine_key
from sonoedge.benchmarks.retention.results import Result, Row, pareto
from sonoedge.benchmarks.retention.retention import SHARES, Retention, compare, share_name
from sonoedge.benchmarks.retention.speeds import Speed
from sonoedge.benchmarks.retention.wording import megabytes, milliseconds, percent
from sonoedge.train.evaluation.intervals import Interval

MAX_AUC_LOSS = 0.01


@dataclass(frozen=True)
class Option:
    """One file of one bundle. ``kept`` compares it with `Pool.reference`; null for that itself.

    ``explanation`` is the verdict against the full model of the file's own bundle; null if none was measured.
    """

    label: str
    bundle: str
    bundle_digest: str
    name: str
    runtime: str
    size_bytes: int
    accuracy: Interval
    auc: Interval
    kept: Retention | None
    explanation: str | None
    typical_ms: float
    low_ms: float
    high_ms: float
    macs: int | None
    int8_macs: int | None
    front: bool


@dataclass(frozen=True)
class Recommendation:
    """For one kind of device: a file with its expected milliseconds and why; no label where nothing fits.

    ``measured`` is false if the milliseconds are an estimate.
    """

    device: str
    label: str | None
    low_ms: float | None
    high_ms: float | None
    measured: bool
    reasons: tuple[str, ...]

    @property
    def reason(self) -> str:
        """All reasons as one sentence."""
        text = "; ".join(self.reasons)
        return f"{text[:1].upper()}{text[1:]}."


@dataclass(frozen=True)
class Pool:
    """Files of one or more bundles, measured alike, against one reference."""

    machine: str
    cores: int
    threads: int
    data: str
    images: int
    bundles: int
    reference: str
    options: tuple[Option, ...]
    recommendations: tuple[Recommendation, ...]


@dataclass(frozen=True)
class _Device:
    """A kind of device: how to recognise its runs, which runtimes it has, and the board for estimates."""

    name: str
    is_one: Callable[[Machine], bool]
    runtimes: tuple[str, ...]
    board: Board | None


_EVERY_RUNTIME = ("tflite", "openvino", "onnx")
_DEVICES = (
    _Device("Pi 4", lambda machine: "Raspberry Pi 4" in machine.processor, ("tflite",), BOARDS[0]),
    _Device("Pi 5", lambda machine: "Raspberry Pi 5" in machine.processor, ("tflite",), BOARDS[1]),
    _Device("phone", lambda machine: machine.system.startswith("Android"), ("tflite",), PHONE),
    _Device("laptop", lambda machine: machine.architecture in {"x86_64", "AMD64"}, _EVERY_RUNTIME, None),
)


def pools(results: Sequence[Result]) -> tuple[Pool, ...]:
    """One pool for each machine, number of threads and set of images with both timings and scores."""
    groups: dict[object, list[Result]] = {}
    for found in results:
        run = found.run
        if run.data is None or run.protocol is None or run.invalid:
            continue
        key = (machine_key(run), run.protocol.threads, tuple((i.digest, i.label) for i in run.data.images))
        groups.setdefault(key, []).append(found)
    return tuple(pool for group in groups.values() if (pool := _pool(group, results)) is not None)


def _pool(group: Sequence[Result], everything: Sequence[Result]) -> Pool | None:
    run = group[0].run
    assert run.data is not None and run.protocol is not None
    anchor = next((c for found in group for c in found.run.candidates if c.kind == "full" and c.logits), None)
    if anchor is None and run.reference is not None:
        anchor = run.candidate(run.reference)
    options = _with_front(_options(group, anchor)) if anchor is not None else []
    if anchor is None or not options:
        return None
    bundles = len({option.bundle_digest for option in options})
    return Pool(
        machine=run.machine.processor,
        cores=run.machine.cores,
        threads=run.protocol.threads,
        data=f"{run.data.name} ({run.data.kind})",
        images=len(run.data.images),
        bundles=bundles,
        reference=f"{run.bundle}: {anchor.name}" if bundles > 1 else anchor.name,
        options=tuple(options),
        recommendations=tuple(_recommend(device, options, everything) for device in _DEVICES),
    )


def _options(group: Sequence[Result], anchor: Candidate) -> list[Option]:
    """Every artifact that was scored and timed, once; if a file was measured in two runs, the later counts."""
    latest: dict[tuple[str, str], Option] = {}
    many = len({found.run.bundle_digest for found in group}) > 1
    for found in sorted(group, key=lambda f: f.run.created):
        for row in found.rows:
            if row.kind == "artifact" and row.scores and row.speed:
                option = _option(found, row, row.speed, anchor, many=many)
                latest[option.bundle_digest, option.name] = option
    labels = [option.label for option in latest.values()]
    return [
        replace(o, label=f"{o.bundle} {o.bundle_digest[:4]}: {o.name}") if labels.count(o.label) > 1 else o
        for o in latest.values()
    ]


def _option(found: Result, row: Row, speed: Speed, anchor: Candidate, *, many: bool) -> Option:
    run, c = found.run, found.run.candidate(row.name)
    assert row.scores is not None and run.data is not None and c.logits is not None and anchor.logits is not None
    kept = None if c is anchor else compare(
        anchor.name,
        np.array([image.label for image in run.data.images]),
        (np.array(anchor.logits, np.float64), anchor.threshold),
        (np.array(c.logits, np.float64), c.threshold),
        [str(image.group) for image in run.data.images],
    )  # fmt: skip
    return Option(
        label=f"{run.bundle}: {row.name}" if many else row.name,
        bundle=run.bundle,
        bundle_digest=run.bundle_digest,
        name=row.name,
        runtime=c.runtime,
        size_bytes=row.size_bytes,
        accuracy=row.scores.metrics["accuracy"],
        auc=row.scores.metrics["auc"],
        kept=kept,
        explanation=row.explanation.verdict if row.explanation else None,
        typical_ms=speed.typical_ms,
        low_ms=speed.low_ms,
        high_ms=speed.high_ms,
        macs=c.macs,
        int8_macs=c.int8_macs,
        front=False,
    )


def _with_front(options: Sequence[Option]) -> list[Option]:
    front = pareto({o.label: (o.typical_ms, o.accuracy.value) for o in options})
    return [replace(option, front=option.label in front) for option in options]


def keeps(option: Option) -> bool:
    """Whether a file is accurate enough to be recommended, by point estimate."""
    kept = option.kept
    return kept is None or (
        kept.accuracy_kept >= SHARES[0] - 1e-12 and not kept.auc_difference.value < -MAX_AUC_LOSS - 1e-12
    )


def _recommend(device: _Device, options: Sequence[Option], everything: Sequence[Result]) -> Recommendation:
    """The fastest file that keeps enough, and why."""
    timed = [(o, *time) for o in options if (time := _time_on(device, o, everything)) is not None]
    if not timed:
        return Recommendation(
            device.name, None, None, None, False, ("nothing here was measured or can be estimated",)
        )
    good = [item for item in timed if keeps(item[0])]
    bar = f"{share_name(SHARES[0])} of the accuracy and all but {MAX_AUC_LOSS:g} of the AUC"
    if not good:
        none = f"none of {len(timed)} files keeps {bar} on these images"
        return Recommendation(device.name, None, None, None, False, (none,))
    option, low, high, basis, measured = min(good, key=lambda item: (item[2], item[0].size_bytes))
    parts = [f"{_of(len(good), bar)} (of {len(timed)} that can run there), {basis}"]
    if option.kept is not None:
        parts.append(_evidence(option.kept))
    parts.append(f"{megabytes(option.size_bytes)} MB")
    if option.explanation is not None:
        parts.append(f"explains like its full model: {option.explanation}")
    parts += _stricter(option, good)
    return Recommendation(device.name, option.label, low, high, measured, tuple(parts))


def _of(count: int, bar: str) -> str:
    return f"the only file that keeps {bar}" if count == 1 else f"the fastest of {count} files that keep {bar}"


def _evidence(kept: Retention) -> str:
    d, flips = kept.accuracy_difference, kept.flips
    return (
        f"keeps {percent(kept.accuracy_kept)} of the accuracy ({kept.verdicts[share_name(SHARES[0])]}; difference "
        f"{d.value:+.3f} [{d.low:+.3f}, {d.high:+.3f}]), AUC {kept.auc_difference.value:+.4f}, "
        f"{flips.total} decisions differ"
    )


def _stricter(option: Option, good: Sequence[tuple[Option, float, float, str, bool]]) -> Iterator[str]:
    """If the recommended file changes too many decisions, which file to take when they must not change."""
    allowed = 1 - SHARES[0] + 1e-12
    if option.kept is None or option.kept.flips.rate.value <= allowed:
        return
    same = [item for item in good if item[0].kept is None or item[0].kept.flips.rate.value <= allowed]
    if same:
        other, low, high, _, measured = min(same, key=lambda item: (item[2], item[0].size_bytes))
        yield f"where decisions must be the full model's: {other.label}, {time_text(low, high, measured=measured)}"


def _time_on(
    device: _Device, option: Option, everything: Sequence[Result]
) -> tuple[float, float, str, bool] | None:
    """Lowest and highest milliseconds, their source in words, whether they were measured; None if unknown."""
    for found in everything:
        run = found.run
        if not device.is_one(run.machine) or run.bundle_digest != option.bundle_digest or run.invalid:
            continue
        row = next((r for r in found.rows if r.name == option.name and r.speed), None)
        if row is not None and row.speed is not None:
            m = run.machine
            basis = f"measured on {m.processor}, {m.cores} cores, with {row.speed.threads} threads"
            return row.speed.low_ms, row.speed.high_ms, basis, True
    if device.board is None or option.runtime not in device.runtimes or option.macs is None:
        return None
    low, high = device.board.latency_ms(option.macs, option.int8_macs or 0)
    return (
        round(low, 1),
        round(high, 1),
        f"estimated for a {device.board.name} from multiply-adds, not measured",
        False,
    )


def time_text(low: float, high: float, *, measured: bool) -> str:
    """``54–57 ms``, or ``about 54–57 ms (estimate)``."""
    text = f"{milliseconds(low)}–{milliseconds(high)} ms"
    return text if measured else f"about {text} (estimate)"
