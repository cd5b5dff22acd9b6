"""Measured runs without measuring: builders of `Run` with chosen logits and timings, and of run cards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from sonoedge.benchmarks.records.runfile import (
    RUN_KIND,
    SCHEMA_VERSION,
    Candidate,
    Data,
    ImageRef,
    Machine,
    Protocol,
    Run,
    Thermal,
    Timing,
)
from sonoedge.edge_runtime.words import INTENDED_USE
from sonoedge.train.records.run_card import DataFacts, Pipeline, TrainedCard
from sonoedge.train.records.settings import PAPER, TrainSettings

FULL = "full Keras model"
QUIET = Thermal(None, None, None)


def candidate(
    name: str, kind: str = "artifact", *, logits: Sequence[float] | None = None, **changes: Any
) -> Candidate:
    """A candidate that ran in 10 ms, with the given logits."""
    timing = changes.pop("timing", Timing(2, tuple(10 + 0.01 * i for i in range(40)), (20, 20)))
    base = Candidate(
        name=name,
        kind=kind,
        of=None,
        runtime="tflite",
        precision="w8a8",
        note="",
        size_bytes=1_000_000,
        threshold=0.5,
        error=None,
        executed={"interpreter": "test 1.0"},
        init_ms=5.0,
        first_ms=12.0,
        base_bytes=50_000_000,
        peak_bytes=80_000_000,
        timing=timing,
        thread_sweep=(),
        stages_ms={"decode": 1.0, "resize": 1.0, "invoke": 9.0},
        logits=None if logits is None else tuple(float(v) for v in logits),
        heatmap_cosine=None,
        macs=None,
        int8_macs=None,
        escalated=None,
    )
    return replace(base, **changes)


def make_run(y: Sequence[int] | None, candidates: Sequence[Candidate], **changes: Any) -> Run:
    """A run from labels (N,) and candidates; the first one is the reference."""
    data = None
    if y is not None:
        images = tuple(ImageRef(f"{i:016x}", int(label), i // 2) for i, label in enumerate(y))
        data = Data("set", "test", "a test", (), ("benign", "malignant"), "d" * 16, images)
    run = Run(
        schema_version=SCHEMA_VERSION,
        kind=RUN_KIND,
        intended_use=INTENDED_USE,
        created="2026-01-01T00:00:00+00:00",
        bundle="tiny",
        bundle_digest="b" * 16,
        machine=Machine("CPU", "x", "Linux", "3.11", 2, 4 << 30, None, {}),
        protocol=Protocol("rapid", 64, 6.0, 5, 2, True),
        thermal_before=QUIET,
        thermal_after=QUIET,
        invalid=None,
        data=data,
        reference=candidates[0].name if data else None,
        heatmap_reference=None,
        candidates=tuple(candidates),
        gallery=(),
        ladders={},
        provenance={},
    )
    return replace(run, **changes)


def scored_run() -> Run:
    """Forty images, a full model and artifacts: one that decides the same, one that is noisy, one that fails."""
    rng = np.random.default_rng(3)
    y = np.arange(40) % 2
    logits = 2.0 * (y - 0.5) + rng.normal(0, 1.2, 40)
    return make_run(
        y.tolist(),
        [
            candidate(FULL, "full", logits=logits, runtime="keras", precision="fp32", size_bytes=4_000_000),
            candidate("same", logits=logits + 1e-6),
            candidate("noisy", logits=logits + rng.normal(0, 2.0, 40), runtime="openvino"),
            candidate("broken", error="<b>no & such kernel</b>", timing=None),
        ],
    )


FILES = ["report.csv", "report.html", "report.json", "report.md"]


def run_card(settings: TrainSettings) -> TrainedCard:
    """The card of a run with these settings that measured nothing."""
    return TrainedCard(
        labels=("benign", "malignant"), threshold=0.5, threshold_rule="0.5",
        dataset=DataFacts("0" * 64, (), {"train": 4, "val": 2, "test": 2}, 0), weights={},
        metrics={"test": {"auc": (0.8, 0.6, 0.9), "precision": (None, None, None)}},
        history={"loss": [0.7, 0.6], "val_loss": [0.8, None]}, seconds={"features": 1.0, "fit": 2.0},
        peak_memory_bytes=None, backend="tensorflow", versions={}, intended_use=INTENDED_USE,
        settings=settings, chosen_fit=PAPER, candidates=(), temperature=1.0, sweep=(), subgroups={},
        fine_tune_history=None, pipeline=Pipeline(1, 8, 1.0, None),
    )  # fmt: skip
