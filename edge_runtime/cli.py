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
from importlib import import_module
from typing import Any

from sonoedge.edge_runtime.errors import MissingExtraError, SonoEdgeError

_TABLE = (
    ("demo", "benchmarks", "the whole path on generated phantoms; no download needed"),
    ("phantoms", "train", "generate speckle phantoms with lesion masks"),
    ("paper-like", "train", "the paper's kind of data set, from a folder of source images"),
    ("audit", "train", "duplicates, augmented copies and conflicting labels in a data folder"),
    ("train", "train", "train the fused classifier: images -> model.keras"),
    ("reproduce", "benchmarks", "the paper's systems, tables and figures, and the honest ones"),
    ("cross-validate", "benchmarks", "ablation by grouped folds; what a leaky split pretends"),
    ("score", "train", "a finished run on other images, by subgroup, with a log of every scoring"),
    ("distill", "train", "teach a compact student what a trained run knows"),
    ("slim", "train", "a VGG with a fraction of its multiply-adds, without training it again"),
    ("export", "export", "model -> bundle of small files for the device"),
    ("cascade", "export", "a cheap model first, the full one only where it is not sure"),
    ("verify", "edge_runtime", "replay a bundle's golden vectors on this machine"),
    ("install", "edge_runtime", "put a bundle in use on this device, or go back to the one before"),
    ("sign", "edge_runtime", "sign a bundle, so that devices accept it by its signer"),
    ("doctor", "edge_runtime", "what is missing or slow on this device"),
    ("predict", "edge_runtime", "classify images with a bundle, explained on request"),
    ("explain", "edge_runtime", "heat maps: where the answer comes from, by class and branch"),
    ("serve", "edge_runtime", "the point-of-care page and API, on this machine"),
    ("stream", "edge_runtime", "classify a camera, a clip, a DICOM cine loop or a folder"),
    ("gate", "export", "teach an older bundle to refuse images unlike those of training"),
    ("benchmark", "benchmarks", "accuracy, size, memory and latency of every artifact"),
    ("benchmark-explain", "benchmarks", "are explanations kept, right and cheap?"),
    ("report", "benchmarks", "merge benchmark runs into one report, catch regressions"),
)
COMMANDS = {
    name: (f"sonoedge.{package}.commands.{name.replace('-', '_')}", summary) for name, package, summary in _TABLE
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
    "msgspec": "train",
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

        print(f"sonoedge {__version__}")
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        print(f"error: unknown command {name!r}. Commands: {', '.join(COMMANDS)}.", file=sys.stderr)
        return 2
    return run_command(name, rest)


def run_command(name: str, arguments: list[str]) -> int:
    """Import one command's module, parse its arguments and run it; expected errors become exit codes."""
    module, summary = COMMANDS[name]
    # A service manager stops programs with SIGTERM: clean up as after Ctrl-C.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        command = import_module(module)
        parser = argparse.ArgumentParser(
            prog=f"sonoedge {name}",
            description=summary[0].upper() + summary[1:] + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(parser)
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
        "",
        "commands:",
        *(f"  {name:<18}{summary}" for name, (_, summary) in COMMANDS.items()),
        "",
        "`sonoedge COMMAND --help` shows options and examples.",
    ]
    return "\n".join(lines)
