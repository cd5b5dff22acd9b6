"""Whether a bundle works on this machine: the replay of all its golden images, and the verdict on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sonoedge.edge_runtime.bundle.contract import Bundle
from sonoedge.edge_runtime.bundle.trust import without_policy
from sonoedge.edge_runtime.device.replay import Replay, load_golden, replay
from sonoedge.edge_runtime.device.sandbox import DEFAULT_SECONDS, replay_isolated
from sonoedge.edge_runtime.errors import MissingExtraError, UsageError, VerificationError
from sonoedge.edge_runtime.model.cascade import first_bundle


def check_limits(seconds: float, threads: int | None) -> None:
    """Raise `UsageError` if a limit of `replay_bundle` is none."""
    if not 0 < seconds < float("inf") or (threads is not None and threads < 1):
        raise UsageError("--timeout must be more than 0 s, and --threads at least 1.")


def replay_bundle(
    bundle: Bundle,
    artifact: str | None = None,
    *,
    threads: int | None = None,
    seconds: float = DEFAULT_SECONDS,
    isolated: bool = True,
) -> list[Replay]:
    """Replay the golden images with every artifact, and with a cascade's cheap model as ``<first>/<artifact>``.

    Args:
        bundle: checked already, with the device's policy applied.
        artifact: only this one, without the cascade's cheap model; None for all.
        threads: for the interpreter; None takes `default_threads`.
        seconds: limit of wall-clock time for each artifact.
        isolated: in a child process with limits; a crash is then a failure of the artifact.

    Raises:
        BundleError: golden.npz or the cheap model's bundle is not sound.
        UsageError: there is no such artifact, or a limit is none.
    """
    check_limits(seconds, threads)
    names = [bundle.artifact(artifact).name] if artifact else [a.name for a in bundle.artifacts]
    parts = [(bundle, names, "")]
    if bundle.cascade and not artifact:
        first = without_policy(first_bundle(bundle))
        parts.append((first, [a.name for a in first.artifacts], f"{bundle.cascade.first}/"))
    results = []
    for owner, wanted, prefix in parts:
        golden = load_golden(owner)
        for name in wanted:
            if isolated:
                result = replay_isolated(owner, name, threads=threads, seconds=seconds)
            else:
                result = replay(owner, name, golden, threads=threads)
            results.append(replace(result, artifact=prefix + name))
    return results


def require_passed(results: Sequence[Replay]) -> None:
    """Check that every artifact that can run here reproduces its results.

    Raises:
        MissingExtraError: no artifact can run here.
        VerificationError: an artifact does not reproduce its results.
    """
    if all(result.skipped for result in results):
        raise MissingExtraError("An interpreter for this bundle", "litert")
    if failed := [r.artifact for r in results if not r.passed and not r.skipped]:
        raise VerificationError(f"{', '.join(failed)} does not reproduce its golden results on this machine.")
