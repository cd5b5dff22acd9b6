"""The names that users may import."""

from __future__ import annotations

import importlib

import pytest

PACKAGES = ("sonoedge", "sonoedge.edge_runtime", "sonoedge.train", "sonoedge.export", "sonoedge.benchmarks")


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_there(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__all__ == sorted(set(module.__all__))
    for name in module.__all__:
        assert getattr(module, name) is not None
        assert name in dir(module)


def test_a_wrong_name_is_an_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = importlib.import_module("sonoedge").nothing
