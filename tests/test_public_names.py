"""The names that users may import."""

from __future__ import annotations

import importlib

import pytest

DEVICE = ("sonoedge", "sonoedge.edge_runtime")
WORKSTATION = ("sonoedge.train", "sonoedge.export", "sonoedge.benchmarks")


@pytest.mark.parametrize("package", DEVICE)
def test_every_public_name_is_there(package: str) -> None:
    all_are_there(package)


@pytest.mark.tensorflow
@pytest.mark.parametrize("package", WORKSTATION)
def test_every_public_name_of_the_workstation_is_there(package: str) -> None:
    all_are_there(package)


def all_are_there(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__all__ == sorted(set(module.__all__))
    for name in module.__all__:
        assert getattr(module, name) is not None
        assert name in dir(module)


def test_a_wrong_name_is_an_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = importlib.import_module("sonoedge").nothing
