"""A data folder of two classes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.data_folders import write_folders


@pytest.fixture
def two_classes(tmp_path: Path) -> Path:
    return write_folders(tmp_path / "data", {"benign": 3, "malignant": 2})
