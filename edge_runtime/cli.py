"""The ``sonoedge`` command: a table of subcommands, each in a module that is imported only when it is called.

A command module has ``add_arguments(parser)`` and ``run(args) -> int``. An expected error is printed as one line
and sets the exit code (see `edge_runtime.errors`). The exit code of an interrupt is 130.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import signal
import sys
from collections.abc import Iterable
from difflib import get_close_matches
from importlib import import_module
from itertools import takewhile
from types import ModuleType
from typing import Any, NoReturn

from sonoedge.edge_runtime.errors import MissingExtraError, SonoEdgeError
from sonoedge.edge_runtime.terminal import hanging

_GROUPS = {
    "start: no data and no model needed": (
        ("demo", "benchmarks", "the whole path on generated phantoms; no download needed"),
        ("phantoms", "train", "generate speckle phantoms with lesion masks"),
        ("completion", "train", "commands, options and files completed by the Tab key"),
    ),
    "model: from images to a bundle": (
        ("train", "train", "train the fused classifier: images -> model.keras"),
        ("distill", "train", "teach a compact student what a trained run knows"),
        ("slim", "train", "a VGG with a fraction of its multiply-adds, without training it again"),
        ("export", "export", "model -> bundle of small files for the device"),
        ("cascade", "export", "a cheap model first, the full one only where it is not sure"),
        ("gate", "export", "teach an older bundle to refuse images unlike those of training"),
        ("calibrate-site", "export", "the threshold from a hospital's own labelled images, beside the bundle"),
        ("sign", "edge_runtime", "sign a bundle, so that devices accept it by its signer"),
    ),
    "evidence: data, accuracy and cost": (
        ("audit", "train", "duplicates, augmented copies and conflicting labels in a data folder"),
        ("score", "train", "a finished run on other images, by subgroup, with a log of every scoring"),
        ("paper-like", "train", "the paper's kind of data set, from a folder of source images"),
        ("cross-validate", "benchmarks", "ablation by grouped folds; what a leaky split pretends"),
        ("reproduce", "benchmarks", "the paper's systems, tables and figures, and the honest ones"),
        ("benchmark", "benchmarks", "accuracy, size, memory and latency of every artifact"),
        ("benchmark-explain", "benchmarks", "are explanations kept, right and cheap?"),
        ("report", "benchmarks", "merge benchmark runs into one report, catch regressions"),
    ),
    "device: run a bundle": (
        ("doctor", "edge_runtime", "what is missing or slow on this device"),
        ("verify", "edge_runtime", "replay a bundle's golden vectors on this machine"),
        ("install", "edge_runtime", "put a bundle in use on this device, or go back to the one before"),
        ("predict", "edge_runtime", "classify images with a bundle, explained on request"),
        ("explain", "edge_runtime", "heat maps: where the answer comes from, by class and branch"),
        ("stream", "edge_runtime", "classify a camera, a clip, a DICOM cine loop or a folder"),
        ("serve", "edge_runtime", "the point-of-care page and API, on this machine"),
    ),
}
"""The commands as the overview shows them: a row has name, package and summary."""
COMMANDS = {
    name: (f"sonoedge.{package}.commands.{name.replace('-', '_')}", summary)
    for rows in _GROUPS.values()
    for name, package, summary in rows
}
"""Module and summary of each command; the module is ``commands/<name>.py`` of its package."""

_EXTRA_OF_MODULE = {
    "keras": "train",
    "tensorflow": "train",
    "sklearn": "train",
    "scipy": "train",
    "matplotlib": "train",
    "h5py": "train",
    "tqdm": "train",
    "jinja2": "train",
    "msgspec": "train",
    "rich": "train",
    "shtab": "train",
    "yaml": "train",
    "litert_quantizer": "export",
    "nncf": "export",
    "onnx": "export",
    "tf2onnx": "export",
    "openvino": "openvino",
    "onnxruntime": "onnx",
    "pydicom": "dicom",
    "highdicom": "sr",
    "cryptography": "trust",
    "starlette": "serve",
    "uvicorn": "serve",
    "av": "video",
    "lime": "xai",
    "shap": "xai",
    "skimage": "xai",
}


def main(argv: list[str] | None = None) -> int:
    """Run a subcommand and return its exit code; None for ``argv`` takes the arguments of the program."""
    if argv is None:
        # A wheel for another processor ends in a signal: show at least where.
        faulthandler.enable(2)
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in {"-h", "--help"}:
        print(_overview())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        from sonoedge.edge_runtime import __version__
        from sonoedge.edge_runtime.device.source import source_digest

        print(f"sonoedge {__version__} (source {source_digest()[:16]})")
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        near = nearest(name, COMMANDS)
        advice = f"Did you mean {near!r}?" if near else f"Commands: {', '.join(COMMANDS)}."
        print(f"error: unknown command {name!r}. {advice}", file=sys.stderr)
        return 2
    return run_command(name, rest)


def run_command(name: str, arguments: list[str]) -> int:
    """Import one command's module, parse its arguments and run it; expected errors become exit codes."""
    # A service manager stops programs with SIGTERM: clean up as after Ctrl-C.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        command, parser = open_command(name)
        parser.given = tuple(arguments)
        return int(command.run(parser.parse_args(arguments)))
    except SonoEdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except ModuleNotFoundError as error:
        return _missing_module(error)
    except BrokenPipeError:
        # The reader (head, less) has gone; Python's flush at exit must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        print(f"error: {error.strerror or error}{where}", file=sys.stderr)
        return 1
    except MemoryError:
        print("error: out of memory.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: nothing half-written was left; finished steps are kept.", file=sys.stderr)
        return 130


class CommandParser(argparse.ArgumentParser):
    """Says in an error which option was meant by an unknown one of ``given``, the arguments of the command."""

    given: tuple[str, ...] = ()

    def error(self, message: str) -> NoReturn:
        """Print usage, message and the options that may have been meant; exit code 2."""
        options = [name for action in self._actions for name in action.option_strings]
        shown = [name for action in self._actions if action.help != argparse.SUPPRESS
                 for name in action.option_strings if name.startswith("--")]  # fmt: skip
        meant = []
        for word in takewhile(lambda word: word != "--", self.given):
            name = word.partition("=")[0]
            # The beginning of an option's name stands for it.
            if name.startswith("--") and not any(option.startswith(name) for option in options):
                near = nearest(name.lstrip("-"), [option.lstrip("-") for option in shown])
                meant += [f"--{near} instead of {name}"] if near else []
        super().error(f"{message}. Did you mean {', '.join(meant)}?" if meant else message)


def open_command(name: str) -> tuple[ModuleType, CommandParser]:
    """Import a command's module and make its parser; this imports none of the workstation's heavy libraries."""
    module, summary = COMMANDS[name]
    command = import_module(module)
    parser = CommandParser(
        prog=f"sonoedge {name}",
        description=summary[0].upper() + summary[1:] + ("" if summary.endswith("?") else "."),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_arguments(parser)
    return command, parser


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that an unknown one resembles; None if it resembles none."""
    return next(iter(get_close_matches(name, known, 1)), None)


def _missing_module(error: ModuleNotFoundError) -> int:
    package = (error.name or "").partition(".")[0]
    if package not in _EXTRA_OF_MODULE:
        raise error
    missing = MissingExtraError(package, _EXTRA_OF_MODULE[package])
    print(f"error: {missing}", file=sys.stderr)
    return missing.exit_code


def _interrupt(signum: int, frame: Any) -> None:
    raise KeyboardInterrupt


def _overview() -> str:
    lines = [
        "usage: sonoedge COMMAND [options]",
        "",
        "Put a breast-ultrasound classifier on an edge device: train, export, verify, run, benchmark.",
        "Research use only; not a medical device.",
    ]
    for title, rows in _GROUPS.items():
        lines += ["", title]
        lines += [hanging(f"  {name:<19}", summary) for name, _, summary in rows]
    return "\n".join([*lines, "", "`sonoedge COMMAND --help` shows options and examples."])
