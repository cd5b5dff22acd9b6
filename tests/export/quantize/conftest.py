"""One small model on its way to each runtime. Keras is imported only by the tests that ask for it."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A `Bench` for TensorFlow Lite."""
    from tests.helpers.int8_models import bench, two_branches

    return bench(tmp_path_factory.mktemp("lite"), two_branches(None), images=8)


@pytest.fixture(scope="session")
def vino(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A `Bench` for OpenVINO."""
    from tests.helpers.int8_models import bench, two_branches

    return bench(tmp_path_factory.mktemp("vino"), two_branches(None), "openvino", images=8)
