"""Options and the file of ``--config``: which values win, and which are refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sonoedge.edge_runtime.errors import UsageError
from sonoedge.train.config.needs import NEEDS
from sonoedge.train.config.options import OPTIONS
from sonoedge.train.config.request import config_text, request_of
from sonoedge.train.records.reader import write_record
from sonoedge.train.records.settings import FitSettings, TrainSettings
from tests.helpers.measured_runs import run_card

PAPER = {"protocol": "paper"}
TUNED = {"fine_tune": "vgg19/block5_.*"}
SWEPT = {"sweep": "sweep.toml"}
WHOLE = {"protocol": "end-to-end"}
COMPACT = {"recipe": "compact"}
# Option, a value, modes in which it does something, modes in which it does nothing.
MODES: tuple[tuple[str, Any, tuple[Mapping[str, Any], ...], tuple[Mapping[str, Any], ...]], ...] = (
    ("epochs", 3, (PAPER, PAPER | TUNED, WHOLE, COMPACT), ({}, TUNED, SWEPT)),
    ("learning_rate", 1e-3, (PAPER, PAPER | TUNED, COMPACT), ({}, TUNED, SWEPT)),
    ("batch_size", 8, (PAPER, TUNED, PAPER | TUNED, SWEPT | TUNED, COMPACT), ({}, SWEPT)),
    ("dropout", 0.2, (PAPER, SWEPT, WHOLE), ({}, TUNED)),
    ("units", 8, ({}, PAPER, TUNED), (SWEPT,)),
    ("fine_tune_epochs", 3, (TUNED, PAPER | TUNED), ({}, PAPER, SWEPT)),
    ("fine_tune_rate", 1e-4, (TUNED, PAPER | TUNED), ({}, PAPER, SWEPT)),
    ("average_weights", True, (TUNED, PAPER | TUNED), ({}, PAPER, SWEPT)),
    ("augment", 3, ({}, PAPER), (WHOLE, COMPACT)),
    ("fine_tune", "vgg19/block5_.*", ({}, PAPER), (COMPACT,)),
    ("sweep", "sweep.toml", ({},), (COMPACT,)),
    ("weight_decay", 0.1, (WHOLE, COMPACT), ({}, PAPER, TUNED)),
    ("label_smoothing", 0.1, (WHOLE, COMPACT), ({}, PAPER, SWEPT)),
    ("augment_policy", "mine:policy", (WHOLE, COMPACT), ({}, PAPER)),
    ("warm_up", 0.1, (WHOLE, COMPACT), ({}, PAPER)),
    ("lesion_weight", 0.5, (COMPACT, WHOLE | {"maps": "lesion"}), ({}, WHOLE, COMPACT | {"maps": "last"})),
    ("maps", "stages", ({}, {"backbones": "vgg19, efficientnetb0"}), ({"backbones": "vgg19,mobilenetv2"},)),
)


def test_every_row_of_the_table_is_tested() -> None:
    assert [need.option for need in NEEDS] == [row[0] for row in MODES]
    assert {need.option for need in NEEDS} <= OPTIONS.keys()


@pytest.mark.parametrize(("option", "value", "useful", "idle"), MODES, ids=[row[0] for row in MODES])
def test_an_option_that_does_nothing_is_refused_if_it_was_given(
    option: str,
    value: Any,
    useful: tuple[Mapping[str, Any], ...],
    idle: tuple[Mapping[str, Any], ...],
    tmp_path: Path,
) -> None:
    name = option.replace("_", "-")
    for mode in useful:
        given = request_of({"data": "d", **mode, option: value}).settings
        assert getattr(given, option) == ((value,) if option == "units" else value)
        assert f"{name}:" in config_text(given)
    for mode in idle:
        assert request_of({"data": "d", **mode})  # not given, not refused
        with pytest.raises(UsageError, match=f"^--{name} does nothing here: .* It needs --|^--{name} does nothing"):
            request_of({"data": "d", **mode, option: value})
        path = tmp_path / "run.yaml"
        path.write_text(json.dumps({"data": "d", **mode, option: value}))
        with pytest.raises(UsageError, match=f"{path}: {name} does nothing here"):
            request_of({}, path)


def test_a_switch_that_is_off_asks_for_nothing() -> None:
    assert request_of({"data": "d", "average_weights": False}).settings == request_of({"data": "d"}).settings


def test_which_backbones_have_stages() -> None:
    from sonoedge.train.config.needs import WITH_STAGES
    from sonoedge.train.models.backbones import BACKBONES

    assert set(WITH_STAGES) == {name for name, row in BACKBONES.items() if row.stages}


def test_defaults_depend_on_the_protocol() -> None:
    assert request_of({"data": "d"}).settings == TrainSettings("d", maps="stages", augment=2)
    assert request_of({"data": "d", **PAPER}).settings == TrainSettings("d", protocol="paper")
    assert request_of({"data": "d", **PAPER, "augment": 3}).settings.augment == 3
    with pytest.raises(UsageError, match="--sweep chooses what --protocol paper fixes"):
        request_of({"data": "d", **PAPER, **SWEPT})
    with pytest.raises(UsageError, match="Name the images"):
        request_of({"seed": 1})


def test_a_recipe_is_a_set_of_options(tmp_path: Path) -> None:
    settings = request_of({"data": "d", **COMPACT}).settings
    assert (settings.protocol, settings.maps, settings.input_size, settings.augment) == (
        "end-to-end", "lesion", 192, 0
    )  # fmt: skip
    assert request_of({"data": "d", **COMPACT, "input_size": 96}).settings.input_size == 96
    assert request_of({"data": "d", "recipe": "fused"}).settings == request_of({"data": "d"}).settings
    path = tmp_path / "compact.yaml"
    path.write_text(config_text(settings))
    assert request_of({}, path).settings == settings
    write_record(run_card(settings), tmp_path / "run.json")
    assert request_of({"epochs": 3}, tmp_path / "run.json").settings.epochs == 3
    with pytest.raises(UsageError, match="--recipe does nothing beside the run to repeat"):
        request_of(COMPACT, tmp_path / "run.json")


def test_several_sources() -> None:
    assert request_of({"data": ["a", "b"]}).settings.data == ("a", "b")
    assert request_of({"data": ["a"]}).settings.data == "a"
    with pytest.raises(UsageError, match="--data must name at least one folder"):
        request_of({"data": []})


def test_a_yaml_file_speaks_both_spellings_and_what_is_given_wins(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(
        "data: images\nprotocol: paper\nlearning-rate: 1e-3\nbatch_size: 8\nunits: [8, 4]\nseed: 3\n"
        "classes: benign, malignant\nbackbones: [vgg19, mobilenetv2]\nworkers: 2\nlog: csv\nout: runs/x\n"
    )
    found = request_of({"seed": 5, "units": None, "epochs": 2}, path)
    assert found.settings == TrainSettings(
        "images", protocol="paper", learning_rate=1e-3, batch_size=8, epochs=2, units=(8, 4), seed=5,
        classes=("benign", "malignant"), backbones="vgg19,mobilenetv2",
    )  # fmt: skip
    assert found.others == {"workers": 2, "log": ("csv",), "out": "runs/x"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data: d\nlerning-rate: 1", "unknown key 'lerning-rate'. The nearest known one is learning-rate."),
        ("data: d\nzzz: 1", "unknown key 'zzz'. The nearest known one is "),
        ("data: d\nprotocol: paper\nepochs: ten", "epochs must be a whole number. Received: 'ten'."),
        ("data: d\nprotocol: paper\nepochs: 0", "epochs must be from 1 to 10000. Received: 0."),
        ("data: d\nseed: 1.5", "seed must be a whole number. Received: 1.5."),
        ("data: d\nseed: true", "seed must be a whole number. Received: True."),
        ("data: d\nprotocol: paper\nlearning-rate: fast", "learning-rate must be a number. Received: 'fast'."),
        ("data: d\nskip-unreadable: maybe", "skip-unreadable must be true or false. Received: 'maybe'."),
        ("data: d\nprotocol: papr", "protocol must be one of default, paper, end-to-end. Received: 'papr'."),
        ("data: d\nunits: [8, x]", "units takes whole numbers separated by commas. Received: [8, 'x']."),
        ("data: d\nunits: 0", "units takes positive numbers. Received: 0."),
        ("data: 3", "data must be text. Received: 3."),
        ("data: d\nclasses: 2", "classes must be names"),
        ("data: d\nseed: 1\nseed: 2", "has seed twice"),
        ("data: d\nfine-tune: a\nfine_tune: b", "has fine_tune twice"),
        ("- data", "must hold options and values"),
        ("", "must hold options and values"),
        ("data: [", "Cannot read the configuration"),
        ("data: !!python/object:os.system x", "Cannot read the configuration"),
    ],
)
def test_bad_files_are_one_sentence(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        request_of({}, path)
    assert words in str(caught.value) and str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Cannot read"):
        request_of({}, tmp_path / "none.yaml")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    settings = TrainSettings(
        "/data", maps="stages", seed=7, protocol="paper", epochs=3, learning_rate=1e-3, augment=1, units=(8,)
    )
    write_record(run_card(settings), tmp_path / "run.json")
    return tmp_path


def test_another_run_gives_every_setting_but_what_is_given(run: Path) -> None:
    for config in (run, run / "run.json"):
        found = request_of({"out": "x"}, config)
        assert (found.settings.data, found.settings.seed, found.settings.epochs) == ("/data", 7, 3)
        assert (found.settings.augment, found.settings.maps) == (1, "stages")  # not the protocol's
        assert found.same_images == "0" * 64
    assert request_of({"seed": 8}, run).settings.seed == 8
    assert request_of({"data": "other"}, run).same_images is None


def test_what_the_other_run_has_is_not_refused_but_dropped(run: Path) -> None:
    found = request_of({"protocol": "default"}, run).settings
    assert (found.epochs, found.learning_rate, found.units) == (None, None, (8,))
    with pytest.raises(UsageError, match="--epochs does nothing here"):
        request_of({"protocol": "default", "epochs": 4}, run)


def test_a_new_sweep_forgets_what_the_old_one_chose(tmp_path: Path) -> None:
    settings = TrainSettings("/data", sweep="/old.toml", fits=(FitSettings(1e-3, 8, 3, 2),))
    write_record(run_card(settings), tmp_path / "run.json")
    assert request_of({}, tmp_path).settings.fits == settings.fits
    assert request_of({"sweep": "new.toml"}, tmp_path).settings.fits is None


@pytest.mark.parametrize(
    "options", [{}, PAPER | {"epochs": 3}, TUNED | {"batch_size": 4}, SWEPT | {"dropout": 0.1}, {"units": [8, 4]}]
)
def test_the_printed_file_asks_for_the_same(options: dict[str, Any], tmp_path: Path) -> None:
    wanted = request_of({"data": "d", "classes": "a,b", **options}).settings
    path = tmp_path / "run.yaml"
    path.write_text(config_text(wanted))
    assert request_of({}, path).settings == wanted
