"""A model that the guard has work with. Keras is imported only by the tests that ask for it."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture(scope="session")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model whose right branch is fragile: a `Bench`."""
    from tests.helpers.int8_models import bench, two_branches

    return bench(tmp_path_factory.mktemp("broken"), two_branches(1))
