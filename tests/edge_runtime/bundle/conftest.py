"""A bundle of dummy files, two signers, and the bundle signed by one of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from sonoedge.edge_runtime.bundle import signature
from sonoedge.edge_runtime.bundle.contract import Bundle
from tests.helpers.bundles import build


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return build(tmp_path / "bundle")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For tests that put back what they change."""
    return build(tmp_path_factory.mktemp("shared") / "bundle").path


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, str]:
    """Two signers, ``clinic`` and ``other``, with their files in tmp_path."""
    return {
        name: signature.new_key(tmp_path / f"{name}.key", tmp_path / f"{name}.pub") for name in ("clinic", "other")
    }


@pytest.fixture
def signed(bundle: Bundle, keys: dict[str, str], tmp_path: Path) -> Bundle:
    signature.sign_bundle(bundle.path, tmp_path / "clinic.key")
    return bundle
