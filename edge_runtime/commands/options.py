"""Options that several commands have, in the same words everywhere; `train.commands.options` has more of them.

The help of a shared option begins with the same words in every command. What it means in one command follows after
a colon, and the default in brackets.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sonoedge.edge_runtime.device.profile import add_profile

BUNDLE_VARIABLE = "SONOEDGE_BUNDLE"
"""Environment variable with the bundle folder of a command that is called without one."""
_BUNDLE_SHOWN = f"${BUNDLE_VARIABLE}, or ./bundle"

Arguments = argparse._ActionsContainer  # a parser, or a group of its options


@dataclass(frozen=True)
class Option:
    """An option that several commands have.

    Attributes:
        name: with its dashes.
        words: its help begins with them.
        metavar: stands for the value; None for a switch without one.
        type: of the value.
        turns_off: for a switch that makes a parameter false: the parameter's name.
    """

    name: str
    words: str
    metavar: str | None = None
    type: Callable[[str], Any] = str
    turns_off: str | None = None

    def add(self, parser: Arguments, here: str = "", *, shown: str = "", **keywords: Any) -> argparse.Action:
        """Add the option to a command.

        Args:
            parser: of the command.
            here: what it means in this command.
            shown: the default in words; without them, ``default`` is shown as it is.
            keywords: for ``add_argument``.
        """
        if self.turns_off is not None:
            keywords = {"dest": self.turns_off, "action": "store_false", **keywords}
        elif self.metavar is None:
            keywords.setdefault("action", "store_true")
        else:
            keywords = {"metavar": self.metavar, "type": self.type, **keywords}
            shown = shown or ("%(default)s" if keywords.get("default") is not None else "")
        text = self.words + (f": {here}" if here else "") + (f" (default: {shown})" if shown else "")
        return parser.add_argument(self.name, help=text, **keywords)


AGREEMENT_DATA = Option(
    "--agreement-data", "unlabelled frames on which decisions are compared with float32's", "DIR", Path
)
ARTIFACT = Option("--artifact", "name of the artifact", "NAME")
ARTIFACTS = Option("--artifacts", "names of artifacts", "A,B")
BUDGET = Option("--budget", "most seconds of a method of explanation for an image", "SECONDS", float)
CLASSES = Option("--classes", "class names, the positive one last", "A,B")
DATA = Option("--data", "folder of labelled images", "DIR")
FRAME = Option(
    "--frame", "frame of a DICOM loop, or page of a TIFF, from 1 (sonoedge stream answers all)", "N", int
)
JSON = Option("--json", "print JSON")
MAX_FLIPS = Option("--max-flips", "largest share of decisions that may change", "X", float)
MAX_IMAGES = Option("--max-images", "at most this many images", "N", int)
MODEL = Option("--model", "run folder", "RUN", Path)
OUT = Option("--out", "folder to write", "DIR", Path)
QUIET = Option("--quiet", "show no progress", turns_off="progress")
SKIP_UNREADABLE = Option("--skip-unreadable", "leave damaged images out")
THREADS = Option("--threads", "interpreter threads", "N", int)
TIMEOUT = Option("--timeout", "time for each artifact", "SECONDS", float)
UNGATED = Option("--ungated", "give numbers and heat maps of refused images, too; they mean nothing")

DEFAULT = "%(default)s"
"""The default of an option, if the command takes it from a function (`train.arguments.take_defaults`)."""
RUNNABLE = "all that can run here"
"""The default of `ARTIFACTS`, in words."""


def add_bundle(parser: Arguments, here: str = "", *, required: bool = True) -> None:
    """Add ``--bundle``; see `default_bundle`. ``required`` false leaves it None if the environment names none."""
    bundle = Option("--bundle", "bundle folder", "BUNDLE", Path)
    if required:
        bundle.add(parser, here, default=default_bundle(), shown=_BUNDLE_SHOWN)
    else:
        bundle.add(parser, here, default=_of_environment(), shown=f"${BUNDLE_VARIABLE}, or none")


def add_bundle_argument(parser: Arguments) -> None:
    """Add the positional argument BUNDLE, which may be left out; see `default_bundle`."""
    parser.add_argument(
        "bundle", nargs="?", type=Path, default=default_bundle(), metavar="BUNDLE",
        help=f"bundle folder (default: {_BUNDLE_SHOWN})",
    )  # fmt: skip


def default_bundle() -> Path:
    """The bundle of a command that is called without one: ``SONOEDGE_BUNDLE``, or ``./bundle``."""
    return _of_environment() or Path("bundle")


def _of_environment() -> Path | None:
    named = os.environ.get(BUNDLE_VARIABLE)
    return Path(named) if named else None


def add_threads(parser: Arguments, here: str = "") -> None:
    """Add ``--threads``; None stands for the number of cores, at most 4."""
    THREADS.add(parser, here, shown="cores, at most 4")


def add_choice_of_model(parser: Arguments, threads: str = "") -> None:
    """Add ``--artifact``, ``--threads`` and ``--profile``, for `edge_runtime.api.load`."""
    ARTIFACT.add(parser, shown="the cascade, or the first that can run here")
    add_threads(parser, threads)
    add_profile(parser)


def old_spelling(parser: Arguments, old: str, new: argparse.Action) -> None:
    """Let an option be called by its earlier name, too, which the help no longer shows."""
    parser.add_argument(
        old, dest=new.dest, type=new.type or str, const=new.option_strings[0], action=_OldSpelling,
        default=argparse.SUPPRESS, help=argparse.SUPPRESS,
    )  # fmt: skip


class _OldSpelling(argparse.Action):
    """Takes a value under an option's earlier name, and says the new one on standard error."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        print(f"note: {self.option_strings[0]} is called {self.const} now.", file=sys.stderr)
        setattr(namespace, self.dest, values)
