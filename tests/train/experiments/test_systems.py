"""The paper's systems as a table."""

from __future__ import annotations

import pytest

from sonoedge.edge_runtime.errors import UsageError
from sonoedge.train.evaluation.metrics import METRIC_NAMES
from sonoedge.train.experiments.systems import PROPOSED, SYSTEMS, parse_systems
from sonoedge.train.models.backbones import BACKBONES


def test_every_system_can_be_built_and_published_figures_are_metrics() -> None:
    for system in SYSTEMS.values():
        assert set(system.backbones) <= BACKBONES.keys()
        assert system.join == "features" or len(system.backbones) > 1
        assert set(system.published) <= set(METRIC_NAMES)
        assert all(0 <= value <= 1 for value in system.published.values())
    assert SYSTEMS[PROPOSED].published["auc"] == 0.9999
    assert len({system.title for system in SYSTEMS.values()}) == len(SYSTEMS)


def test_parsing() -> None:
    assert parse_systems(None) == tuple(SYSTEMS)
    assert parse_systems(" vgg19, mobilenetv2 ") == ("vgg19", "mobilenetv2")


@pytest.mark.parametrize("text", ["", "vgg19,vgg19", "vgg99", "vgg19,nasnet"])
def test_bad_lists(text: str) -> None:
    with pytest.raises(UsageError, match="--systems takes"):
        parse_systems(text)
