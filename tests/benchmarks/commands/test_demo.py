"""``sonoedge demo``: its steps have options that exist, a failure ends it, and its last lines lead on."""

from __future__ import annotations

import argparse
import shlex
from importlib import import_module
from pathlib import Path

import pytest

from sonoedge.benchmarks.commands import demo
from sonoedge.edge_runtime.cli import COMMANDS
from sonoedge.train.config.options import OPTIONS
from sonoedge.train.config.request import request_of
from sonoedge.train.data.dataset import load_dataset
from sonoedge.train.data.split import make_split, write_split
from sonoedge.train.evaluation.run_folder import open_run
from sonoedge.train.records.reader import write_record
from tests.helpers.measured_runs import run_card

pytestmark = pytest.mark.tensorflow  # the commands import it to name their options


def parsed(name: str, arguments: list[str]) -> argparse.Namespace:
    """As the command itself would take them; SystemExit for an option that it does not know."""
    parser = argparse.ArgumentParser()
    import_module(COMMANDS[name][0]).add_arguments(parser)
    return parser.parse_args(arguments)


class Steps:
    """In place of the commands: parses their options, and leaves of the training what the demo reads."""

    def __init__(self, phantoms: Path, fails: str = "") -> None:
        self.phantoms, self.fails, self.seen = phantoms, fails, dict[str, argparse.Namespace]()

    def __call__(self, number: int, name: str, arguments: list[str]) -> int:
        self.seen[name] = args = parsed(name, arguments)
        if name == "train":
            args.out.mkdir(parents=True)
            write_split(make_split(load_dataset(self.phantoms)), args.out / "split.json")
            settings = request_of({name: getattr(args, name) for name in OPTIONS}).settings
            write_record(run_card(settings), args.out / "run.json")
            (args.out / "model.keras").write_bytes(b"")
        return 7 if name == self.fails else 0


def run(out: Path) -> int:
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)
    return demo.run(parser.parse_args(["--out", str(out), "--weights", "none", "--quiet"]))


def test_steps_options_and_last_lines(
    phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = Steps(phantoms)
    monkeypatch.setattr(demo, "_call", steps)
    assert run(tmp_path / "demo") == 0
    assert list(steps.seen) == ["phantoms", "train", "export", "verify", "predict"]
    assert 2 * steps.seen["phantoms"].cases >= 20
    settings = open_run(tmp_path / "demo" / "run").card.settings
    assert settings.backbones == "vgg19,efficientnetb0" and settings.input_size == 224
    assert steps.seen["export"].precision == "guard"
    images = [Path(image) for image in steps.seen["predict"].images]
    assert [image.parent.name for image in images] == ["benign", "malignant"]
    subset = {e.relative_path: e.subset for e in make_split(load_dataset(phantoms)).entries}
    assert {subset[f"{image.parent.name}/{image.name}"] for image in images} == {"test"}
    *_, benchmark, heat_map = capsys.readouterr().out.splitlines()
    _, name, *arguments = shlex.split(benchmark)
    assert parsed(name, arguments).bundle == Path(steps.seen["verify"].bundle)
    overlay = Path(steps.seen["predict"].explain) / f"{images[-1].stem}.overlay.png"
    assert heat_map == f"Heat map of a test image: {overlay}"


def test_a_step_that_fails_ends_the_demo(
    phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "_call", steps := Steps(phantoms, "export"))
    assert run(tmp_path / "demo") == 7
    assert "verify" not in steps.seen
    assert "Heat map" not in capsys.readouterr().out
