"""``sonoedge benchmark --autotune``: the fastest file and number of threads here. edge_runtime and NumPy only.

Only files whose accuracy was accepted at export take part: float files, and integer files whose verdict from the
guard is not FAIL. Every pair of file and threads is tried for a few frames. Pairs that take at most 1.5 times as
long as the fastest are timed in interleaved rounds by the latency protocol. Pairs whose rounds overlap with those
of the fastest count as equally fast: of these the one with the fewest threads is chosen, then the smallest file, so
that the device keeps capacity for other work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from sonoedge.benchmarks.device.run import fingerprint
from sonoedge.benchmarks.measure.candidates import Bar, Planned, measure_all
from sonoedge.benchmarks.measure.environment import machine
from sonoedge.benchmarks.measure.planning import artifact_candidates, escalated_share, make_protocol, thread_counts
from sonoedge.benchmarks.measure.turns import round_ms, turns, typical_ms
from sonoedge.benchmarks.records.journal import Journal
from sonoedge.benchmarks.records.runfile import Protocol, Timing
from sonoedge.edge_runtime.bundle.checksums import bundle_digest
from sonoedge.edge_runtime.bundle.contract import Artifact, Bundle
from sonoedge.edge_runtime.bundle.trust import load_trusted
from sonoedge.edge_runtime.device.profile import DeviceProfile, Tried, write_profile
from sonoedge.edge_runtime.errors import ModelError, UsageError
from sonoedge.edge_runtime.model.cascade import CASCADE

SCREENING_FRAMES = 5
SCREENING_FACTOR = 1.5
_FLOAT = {"fp32", "fp16"}


@dataclass(frozen=True)
class _Pair:
    """A file with a number of threads, and the milliseconds of a frame in the screening."""

    planned: Planned
    artifact: str
    threads: int
    screened_ms: float | None
    error: str = ""


def autotune(
    bundle_path: Path, out: Path, *, artifacts: Sequence[str] | None, mode: str, bar: Bar
) -> DeviceProfile:
    """Measure, write the profile and return it; an interrupted run goes on.

    Args:
        bundle_path: bundle folder.
        out: file of the profile.
        artifacts: names; None takes all that can run here.
        mode: one of `benchmarks.measure.candidates.MODES`.
        bar: shows progress.

    Raises:
        BundleError, UsageError, MissingExtraError: nothing can be measured.
        ModelError: no tried file works here.
    """
    if out.is_dir():
        raise UsageError(f"--out names a file with --autotune; {out} is a folder.")
    if mode == "none":
        raise UsageError("--autotune measures latency: --mode none leaves nothing to choose by.")
    bundle = load_trusted(bundle_path)
    bundle = replace(bundle, path=bundle.path.resolve())
    here = machine()
    share = escalated_share(bundle) if bundle.cascade else None
    candidates = artifact_candidates(bundle, artifacts, 1, bare=False)
    refused = {p.name: why for p in candidates if (why := why_refused(bundle, p.name))}
    accepted = [p for p in candidates if p.name not in refused]
    if not accepted:
        reasons = "; ".join(f"{name}: {why}" for name, why in refused.items())
        raise UsageError(f"No file of {bundle_path} has an accuracy that was accepted at export. {reasons}.")
    counts = thread_counts(0, here.cores)
    make_protocol(mode, max(counts), [])
    parts = [str(bundle.path), bundle_digest(bundle.path), mode, "autotune", *[p.name for p in accepted]]
    journal = Journal(out.with_name(f".{out.name}.partial"), fingerprint(parts))
    pairs = [_screen(p, n, share, journal) for p, n in bar([(p, n) for p in accepted for n in counts], "trying")]
    works = [pair for pair in pairs if pair.screened_ms is not None]
    if not works:
        raise ModelError(f"No file works here. {pairs[0].artifact}: {pairs[0].error}")
    best = min(pair.screened_ms for pair in works if pair.screened_ms is not None)
    racing = [
        pair for pair in works if pair.screened_ms is not None and pair.screened_ms <= SCREENING_FACTOR * best
    ]
    protocol = make_protocol(mode, max(counts), [pair.planned for pair in racing])
    timings = _race(racing, protocol, journal, bar)
    tried = [_tried(pair, timings.get(pair.planned.name), share) for pair in pairs]
    sizes = {p.name: p.size_bytes for p in accepted}
    winner, reason = choose(tried, sizes)
    tried = [
        replace(t, note="chosen") if (t.artifact, t.threads) == (winner.artifact, winner.threads) else t
        for t in tried
    ]
    assert winner.typical_ms is not None
    profile = DeviceProfile(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        bundle=bundle.name,
        bundle_digest=bundle_digest(bundle.path),
        processor=here.processor,
        architecture=here.architecture,
        cores=here.cores,
        artifact=winner.artifact,
        threads=winner.threads,
        typical_ms=winner.typical_ms,
        reason=reason,
        measured=(*tried, *[Tried(name, 0, None, None, None, why) for name, why in refused.items()]),
    )
    write_profile(profile, out)
    journal.remove()
    return profile


def why_refused(bundle: Bundle, name: str) -> str:
    """Why a file's accuracy was not accepted at export; empty if it was accepted.

    A cascade is accepted if its full model is.
    """
    if name == CASCADE:
        assert bundle.cascade is not None
        name = bundle.cascade.full_artifact
    artifact: Artifact = bundle.artifact(name)
    if artifact.precision in _FLOAT:
        return ""
    found = artifact.metrics.get("validation")
    if not isinstance(found, dict):
        return "quantized, and never compared with the float file on validation images"
    return "the accuracy guard said FAIL" if found.get("verdict") == "FAIL" else ""


def choose(tried: Sequence[Tried], sizes: dict[str, int]) -> tuple[Tried, str]:
    """The winner among the candidates that were timed to the end, and the reason; ``sizes`` are bytes by name.

    Raises:
        ModelError: no candidate was timed to the end.
    """
    timed = [t for t in tried if t.typical_ms is not None and t.low_ms is not None and t.high_ms is not None]
    if not timed:
        raise ModelError("Nothing could be timed to the end: " + "; ".join(t.note for t in tried if t.note))
    fastest = min(timed, key=lambda t: t.typical_ms or 0.0)
    equal = [t for t in timed if (t.low_ms or 0.0) <= (fastest.high_ms or 0.0)]
    winner = min(equal, key=lambda t: (t.threads, sizes.get(t.artifact, 0), t.typical_ms))
    threads = f"{winner.threads} thread{'s' if winner.threads > 1 else ''}"
    text = f"{winner.artifact} with {threads} takes {winner.typical_ms:.3g} ms a frame"
    if winner is not fastest:
        gain = "takes fewer threads" if winner.threads < fastest.threads else "is the smaller file"
        text += (
            f", within the noise of the fastest ({fastest.artifact}, {fastest.threads} threads, "
            f"{fastest.typical_ms:.3g} ms), and {gain}"
        )
    others = [t for t in timed if t not in equal]
    if others:
        second = min(others, key=lambda t: t.typical_ms or 0.0)
        text += f"; next is {second.artifact} with {second.threads}, {second.typical_ms:.3g} ms"
    return winner, text


def _screen(planned: Planned, threads: int, share: float | None, journal: Journal) -> _Pair:
    """Time a few frames; a file that cannot run is kept with the reason."""
    assert planned.spec is not None
    own = replace(planned, name=f"{planned.name}, {threads}", spec=replace(planned.spec, threads=threads))

    def work() -> dict[str, object]:
        try:
            worker = own.open()
        except ModelError as error:
            return {"ms": None, "error": str(error)}
        try:
            samples = worker.ask(do="time", queries=SCREENING_FRAMES, seconds=0.0)["samples_ms"]
        except ModelError as error:
            return {"ms": None, "error": str(error)}
        finally:
            worker.close()
        return {
            "ms": turns([samples]).average_ms(share or 0.0) if planned.name == CASCADE else median(samples),
            "error": "",
        }

    found = journal.step(f"try {own.name}", work)
    return _Pair(own, planned.name, threads, found["ms"], found["error"])


def _race(pairs: Sequence[_Pair], protocol: Protocol | None, journal: Journal, bar: Bar) -> dict[str, Timing | str]:
    """Interleaved timings by name; in place of a missing timing, its reason."""
    planned = [replace(pair.planned, scores=False, swept=False) for pair in pairs]
    results, _ = measure_all(planned, [], protocol, [], journal, bar)
    return {name: found.timing or (found.error or "not timed") for name, found in results.items()}


def _tried(pair: _Pair, timing: Timing | str | None, share: float | None) -> Tried:
    if pair.screened_ms is None:
        return Tried(pair.artifact, pair.threads, None, None, None, f"failed: {pair.error}")
    if timing is None:
        note = f"{pair.screened_ms:.3g} ms in the first {SCREENING_FRAMES} frames: too slow to go on"
        return Tried(pair.artifact, pair.threads, None, None, None, note)
    if isinstance(timing, str):
        return Tried(pair.artifact, pair.threads, None, None, None, f"failed: {timing}")
    escalated = share if pair.artifact == CASCADE else None
    each = round_ms(timing, escalated)
    typical = round(typical_ms(timing, escalated), 3)
    return Tried(pair.artifact, pair.threads, typical, round(min(each), 3), round(max(each), 3), "")
