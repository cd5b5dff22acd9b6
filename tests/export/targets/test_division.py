"""Division by something positive becomes a product; the result stays the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sonoedge.edge_runtime.backends import open_model
from sonoedge.export.convert.graphs import tflite_operators
from sonoedge.export.targets.division import without_division
from tests.export.targets.lite_graphs import images, lesion_graph


def test_the_product_gives_what_the_division_gives(tmp_path: Path) -> None:
    model = lesion_graph()
    runners = []
    for name, content in (("division", model), ("product", without_division(model))):
        path = tmp_path / f"{name}.tflite"
        path.write_bytes(content)
        runners.append(open_model(path, "tflite", threads=1))
        found = [operator.operation for operator in tflite_operators(content)]
        assert ("DIV" in found, found.count("RSQRT")) == ((True, 0) if name == "division" else (False, 1))
    for image in images():
        wanted, given = (runner.run({"image": image})["map"] for runner in runners)
        assert np.ptp(wanted) > 0.1
        np.testing.assert_allclose(given, wanted, rtol=3e-6)


def test_a_division_by_what_may_be_negative_stays() -> None:
    model = lesion_graph(sigmoid=False)
    assert "DIV" in [operator.operation for operator in tflite_operators(without_division(model))]
