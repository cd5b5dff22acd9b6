"""Commands called in this process, and what they answered."""

from __future__ import annotations

import argparse
import inspect
import signal
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from sonoedge.edge_runtime import cli
from tests.helpers.models import RUN_BACKBONES, SIZE


@dataclass(frozen=True)
class Result:
    """What a command answered."""

    code: int
    out: str
    err: str


def call(*arguments: object) -> int:
    """``sonoedge ARGUMENTS`` in this process, which keeps its own SIGTERM handler."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        return cli.main([str(argument) for argument in arguments])
    finally:
        signal.signal(signal.SIGTERM, handler)


def train_arguments(phantoms: Path, weights_dir: Path) -> list[object]:
    """How `tiny_run` is trained."""
    return [
        "--data", phantoms, "--weights", weights_dir, "--backbones", ",".join(RUN_BACKBONES), "--quiet",
        "--input-size", SIZE, "--units", 16, "--protocol", "paper",
    ]  # fmt: skip


Sono = Callable[..., Result]


def differences(name: str, function: Callable[..., object], *own: str) -> dict[str, object]:
    """What a command's options and a function's parameters do not share; ``own`` are options of the command alone.

    A name maps to what is wrong: an option that reaches nothing, a parameter without an option, two defaults.
    """
    parser = argparse.ArgumentParser()
    import_module(cli.COMMANDS[name][0]).add_arguments(parser)
    options = {a.dest: a for a in parser._actions if a.dest not in {"help", "json", *own}}
    parameters = inspect.signature(function).parameters
    found: dict[str, object] = dict.fromkeys(options.keys() - parameters.keys(), "reaches nothing")
    found |= dict.fromkeys(parameters.keys() - options.keys(), "has no option")
    for option in options.keys() & parameters.keys() - {"progress"}:
        if not options[option].required and options[option].nargs != "+":
            defaults = options[option].default, parameters[option].default
            if str(defaults[0]) != str(defaults[1]):
                found[option] = defaults
    return found
