"""`benchmark_explain`: are explanations kept, do they point at the lesion, what do they cost?"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sonoedge.edge_runtime.errors import UsageError
from sonoedge.edge_runtime.explain.methods.budget import check_seconds
from sonoedge.edge_runtime.explain.methods.table import GRADCAM, Method, methods_of
from sonoedge.train.arguments import names_in, path_of
from sonoedge.train.folders import check_replaceable

if TYPE_CHECKING:
    from sonoedge.benchmarks.explanations.report import ExplanationReport

StrPath = str | os.PathLike[str]


def benchmark_explain(
    bundle: StrPath = "bundle",
    data: StrPath | None = None,
    *,
    out: StrPath,
    model: StrPath | None = None,
    external: StrPath | None = None,
    artifacts: str | Sequence[str] = "",
    compare: str | Sequence[StrPath] = "",
    max_images: int = 0,
    faithfulness_images: int = 24,
    timing_runs: int = 20,
    panels: int = 5,
    methods: str | Sequence[str] = "",
    budget: float | None = None,
    threads: int | None = None,
    progress: bool = False,
) -> ExplanationReport:
    """Evaluate, and write the report and its pictures.

    Args:
        bundle: bundle folder.
        data: the run's images, with ``masks/``.
        out: report folder.
        model: run folder: GradientTape on its Keras model is the truth; None: no fidelity, no costs.
        external: images of another source, reported beside.
        artifacts: names; maps of the first are localised; empty: all that can run here.
        compare: runs to compare, of the same split.
        max_images: at most this many images of each set; 0: all.
        faithfulness_images: for deletion and insertion, which run the model some 60 times an image; 0: none.
        timing_runs: calls that are timed; 0: none.
        panels: images per class in the pictures.
        methods: of explanation (`edge_runtime.explain.methods.table`), measured with one ruler on the first
            artifact, with ``gradcam`` among them; empty: none. Finished images are kept beside ``out`` until the
            end.
        budget: seconds of each method for an image; None: no limit.
        threads: of the interpreters; None: their default.
        progress: show bars.

    Raises:
        BundleError, DataError, ModelError, UsageError: an input cannot be read, or inputs do not fit each other.
        MissingExtraError: a method needs an extra that is not installed.
    """
    if data is None:
        raise UsageError("--data DIR is needed.")
    for option, value in (
        ("--max-images", max_images),
        ("--faithfulness-images", faithfulness_images),
        ("--timing-runs", timing_runs),
        ("--panels", panels),
    ):
        if value < 0:
            raise UsageError(f"{option} cannot be negative. Received: {value}.")
    check_seconds(budget)
    chosen = _methods(names_in(methods))
    if budget is not None and not chosen:
        raise UsageError("--budget is for --methods: name some.")
    from sonoedge.train.quiet import quiet

    with quiet():
        from sonoedge.benchmarks.explanations.evaluation import ExplanationRequest, evaluate
        from sonoedge.benchmarks.explanations.methods import compare_methods
        from sonoedge.benchmarks.explanations.report import REPORT, write_report
    target = Path(out)
    partial = target.with_name(f".{target.name}.methods.partial")
    if not partial.is_file():  # a folder that an interrupted measurement left is ours
        check_replaceable(target, marker=REPORT)
    request = ExplanationRequest(
        bundle=Path(bundle),
        data=Path(data),
        out=target,
        run=path_of(model),
        external=path_of(external),
        artifacts=tuple(names_in(artifacts)),
        compare=tuple(Path(run) for run in (compare.split(",") if isinstance(compare, str) else compare) if run),
        limit=max_images,
        faithfulness_images=faithfulness_images,
        timing_runs=timing_runs,
        panels=panels,
        threads=threads,
        progress=progress,
    )
    target.mkdir(parents=True, exist_ok=True)
    report = evaluate(request)
    if chosen:
        report = replace(report, methods=compare_methods(request, chosen, budget, partial))
    write_report(report, target)
    partial.unlink(missing_ok=True)
    return report


def _methods(names: Sequence[str]) -> list[Method]:
    """The methods of these names, which must be able to run here; Grad-CAM, the measure of all, is first."""
    found = methods_of([GRADCAM, *names]) if names else []
    for method in found:
        method.require()
    return found
