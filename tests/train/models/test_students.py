"""Students before and after they get their head."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sonoedge.export.convert.splitting import split_model
from sonoedge.train.models.fusion import HeadSpec, build_head
from sonoedge.train.models.students import build_student, student, with_head
from tests.helpers.models import SIZE


@pytest.mark.slow
@pytest.mark.parametrize(("units", "pretrained"), [((), True), ((5,), False), ((6, 4), True)])
def test_the_whole_student_answers_as_its_parts(
    pretrained: bool, units: tuple[int, ...], weights_dir: Path
) -> None:
    row = student("mobilenetv2")
    parts = build_student(row, weights=str(weights_dir) if pretrained else "none", input_size=(SIZE, SIZE))
    head = build_head({"maps": parts.upper.output_shape[-1:]}, HeadSpec(units=units)).head
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (3, SIZE, SIZE, 3)).astype(np.float32)
    maps = parts.upper.predict(parts.lower.predict(images, verbose=0), verbose=0)
    expected = head.predict(maps.mean(axis=(1, 2)), verbose=0)
    width = (*units, 1)[0]
    # All directions, in some order: nothing is lost.
    directions = np.linalg.qr(rng.normal(size=(width, width)))[0].astype(np.float32)
    whole = with_head(parts, head, directions)
    np.testing.assert_allclose(whole.predict(images, verbose=0), expected, atol=1e-5)
    # Twice as fine as the network's last maps, and the head's gradient is still written out.
    split = split_model(whole)
    (branch,) = split.head.branches
    assert (branch.name, branch.height, branch.width) == (row.backbone, SIZE // 16, SIZE // 16)
    assert not split.not_closed


def test_only_what_lies_above_the_cut_is_trained(weights_dir: Path) -> None:
    row = student("mobilenetv2")
    taught = build_student(row, weights=str(weights_dir), input_size=(SIZE, SIZE))
    whole = build_student(row, weights="none", input_size=(SIZE, SIZE))
    every = sum(np.prod(weight.shape) for weight in whole.upper.weights)
    above = sum(np.prod(weight.shape) for weight in taught.upper.weights)
    assert 0 < above < every
    assert not whole.lower.weights
    assert len(taught.lower.weights) + len(taught.upper.weights) == len(whole.upper.weights)
