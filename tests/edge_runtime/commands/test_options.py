"""The options of all commands: the same words for the same option, and one place for the default bundle."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sonoedge.edge_runtime.cli import COMMANDS, open_command
from sonoedge.edge_runtime.commands.options import BUNDLE_VARIABLE, default_bundle
from tests.helpers.places import ROOT

DIFFERENT = {
    "--key": "public key, private key, key of a certificate",
    "--split": "one way for train, one or both for cross-validate",
    "--views": "images of a phantom, crops of a frame",
    "--workers": "processes of train, frames at once of serve",
}
"""Options whose name has several meanings, and which."""


def options() -> Iterator[tuple[str, str, argparse.Action]]:
    """Command, name and action of every option that a help shows."""
    for command in COMMANDS:
        for action in open_command(command)[1]._actions:
            if action.help != argparse.SUPPRESS:
                for name in action.option_strings:
                    yield command, name, action


def shared_words(action: argparse.Action) -> str:
    """The beginning of the help, before what the option means in one command and before the default."""
    return re.split(r": | \(", action.help or "")[0]


def test_the_same_option_in_the_same_words() -> None:
    seen: dict[str, dict[tuple[object, str], list[str]]] = {}
    for command, name, action in options():
        found = seen.setdefault(name, {}).setdefault((action.metavar, shared_words(action)), [])
        found.append(command)
    several = {name: found for name, found in seen.items() if len(found) > 1}
    # Take the option from `edge_runtime.commands.options` or `train.commands.options`, or put it there.
    assert {name: found for name, found in several.items() if name not in DIFFERENT} == {}
    assert several.keys() == DIFFERENT.keys()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_described(command: str) -> None:
    parser = open_command(command)[1]
    assert parser.description and parser.description[0].isupper()
    assert re.search(rf"^examples?:\n  sonoedge {command}\b", parser.epilog or "", re.MULTILINE | re.DOTALL) or (
        f"sonoedge {command}" in (parser.epilog or "") and "example" in (parser.epilog or "")
    )
    assert parser.format_help()  # no '%' that argparse cannot expand
    for action in parser._actions:
        assert action.help, f"{action.dest} has no help"


WALK = """
import sys
from sonoedge.edge_runtime.cli import COMMANDS, open_command
heavy = set(sys.argv[1].split(","))
for name in COMMANDS:
    before = set(sys.modules)
    open_command(name)
    found = {module.partition(".")[0] for module in set(sys.modules) - before} & heavy
    if found:
        print(name, *sorted(found))
"""


def test_the_help_of_all_commands_is_light() -> None:
    """Completion imports every command; a command that is only asked for its help takes no second."""
    heavy = (
        "tensorflow,keras,sklearn,scipy,matplotlib,h5py,tqdm,rich,jinja2,msgspec,yaml,shtab,openvino,onnx,nncf,"
        "onnxruntime,ai_edge_litert,tflite_runtime,starlette,uvicorn,pydicom,highdicom,av,cryptography"
    )
    found = subprocess.run(
        [sys.executable, "-c", WALK, heavy], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout == ""


def with_bundle() -> list[str]:
    """Commands with ``--bundle`` or BUNDLE, except those that must be told what they sign or install."""
    parsers = {name: open_command(name)[1] for name in COMMANDS if name not in {"sign", "install"}}
    return [name for name, parser in parsers.items() if any(a.dest == "bundle" for a in parser._actions)]


def test_which_commands_have_a_default_bundle() -> None:
    assert {"predict", "explain", "stream", "serve", "doctor", "verify", "benchmark", "gate"} <= set(with_bundle())


@pytest.mark.parametrize("command", with_bundle())
def test_the_environment_names_the_bundle(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BUNDLE_VARIABLE, "/clinic/bundle")
    parser = open_command(command)[1]
    assert parser.get_default("bundle") == Path("/clinic/bundle") == default_bundle()
    assert "$SONOEDGE_BUNDLE" in parser.format_help()
    monkeypatch.setenv(BUNDLE_VARIABLE, "")
    nothing = None if command == "doctor" else Path("bundle")
    assert open_command(command)[1].get_default("bundle") == nothing


def test_an_option_outranks_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BUNDLE_VARIABLE, "/clinic/bundle")
    predict, verify = (open_command(command)[1] for command in ("predict", "verify"))
    assert predict.parse_args(["a.png"]).bundle == Path("/clinic/bundle")
    assert predict.parse_args(["--bundle", "mine", "a.png"]).bundle == Path("mine")
    assert verify.parse_args(["mine"]).bundle == Path("mine")


@pytest.mark.parametrize(
    ("command", "old", "new", "value"),
    [
        *((c, "--cache", "--feature-cache", "x") for c in
          ("train", "distill", "slim", "score", "reproduce", "cross-validate")),
        ("export", "--cache", "--quantized-cache", "x"),
        ("benchmark-explain", "--limit", "--max-images", "3"),
    ],
)  # fmt: skip
def test_an_old_spelling_works_and_says_the_new_one(
    command: str, old: str, new: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = open_command(command)[1]
    required = [part for action in parser._actions if action.required and action.option_strings
                for part in (action.option_strings[0], "given")]  # fmt: skip
    assert vars(parser.parse_args([*required, old, value])) == vars(parser.parse_args([*required, new, value]))
    assert capsys.readouterr() == ("", f"note: {old} is called {new} now.\n")
    assert f"{old} " not in parser.format_help().replace(new, "")
