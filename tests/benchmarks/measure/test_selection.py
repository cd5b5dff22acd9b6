"""Which images of a folder are judged."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from sonoedge.edge_runtime.bundle.manifest import load_bundle


def test_selection_of_images(run_bundle: Path, phantoms: Path) -> None:
    from sonoedge.benchmarks.measure.selection import load_selection, select_images
    from sonoedge.edge_runtime.errors import DataError
    from sonoedge.train.data.dataset import load_dataset

    bundle = load_bundle(run_bundle)
    dataset = load_dataset(phantoms, classes=bundle.labels)
    chosen = select_images(bundle, dataset)
    assert chosen.kind == "test" and 0 < len(chosen.dataset) < len(dataset)
    digests = {sample.sha256 for sample in chosen.dataset.samples}
    seen = [i for i, sample in enumerate(dataset.samples) if sample.sha256 not in digests]
    with pytest.raises(DataError, match="none of them is a test image"):
        select_images(bundle, dataset.select(seen))
    stranger = SimpleNamespace(provenance={"training": None}, labels=bundle.labels)
    assert select_images(stranger, dataset).kind == "external"  # type: ignore[arg-type]
    data, paths = load_selection(stranger, phantoms, None, skip_unreadable=False, limit=10)  # type: ignore[arg-type]
    assert len(data.images) == len(paths) == 10 and {image.label for image in data.images} == {0, 1}
    assert data.note.endswith("10 of 48 taken")
