"""``sonoedge completion``: a script with which a shell completes commands, options, choices, files and folders."""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import Any

from sonoedge.edge_runtime.cli import COMMANDS

SHELLS = ("bash", "zsh", "tcsh")
FOLDERS = frozenset({"BUNDLE", "DATA", "DIR", "RUN"})
"""Placeholders of a folder; with `FILES`, they decide how a value is completed."""
FILES = frozenset({"DCM", "FILE", "IMAGE", "PATH", "PEM", "PNG"})
"""Placeholders of a file, or of a file or a folder."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``sonoedge completion``."""
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help=f"one of {', '.join(SHELLS)}")
    parser.epilog = (
        "Make the script again after an update. It starts no Python, so it can be copied to a device.\n\n"
        "examples:\n"
        '  eval "$(sonoedge completion bash)"                              in this terminal\n'
        "  sonoedge completion bash > ~/.local/share/bash-completion/completions/sonoedge\n"
        "  sonoedge completion zsh > ~/.zfunc/_sonoedge                    with ~/.zfunc in fpath\n"
        "  sonoedge completion tcsh > ~/.sonoedge.tcsh                     source it in ~/.tcshrc"
    )


def run(args: argparse.Namespace) -> int:
    """Print the script. Exit code 0."""
    import shtab

    print(shtab.complete(whole_parser(), args.shell))
    return 0


def whole_parser() -> argparse.ArgumentParser:
    """One parser with every command as a sub-command; `shtab` reads from it how each value is completed."""
    whole = argparse.ArgumentParser(prog="sonoedge")
    whole.add_argument("--version", action="store_true", help="print the version")
    commands = whole.add_subparsers()
    for name, (module, summary) in COMMANDS.items():
        parser = commands.add_parser(name, help=summary, description=summary)
        import_module(module).add_arguments(parser)
        for action in parser._actions:
            if action.metavar and not action.choices:
                _tell(action, str(action.metavar).split("|"))
    return whole


def _tell(action: argparse.Action, placeholder: list[str]) -> None:
    """Note at an argument how its value is completed, from the parts of its placeholder: words, FILE, DIR."""
    import shtab

    words = [part for part in placeholder if part.islower()]
    kind = "file" if FILES & set(placeholder) else "dir" if FOLDERS & set(placeholder) else ""
    paths = {"file": shtab.FILE, "dir": shtab.DIRECTORY, "": {}}[kind]
    if words and kind:
        action.complete = _words_and_paths(words, kind, paths)  # type: ignore[attr-defined]
    elif kind:
        action.complete = paths  # type: ignore[attr-defined]
    elif words:
        action.choices = words


def _words_and_paths(words: list[str], kind: str, paths: dict[str, Any]) -> dict[str, Any]:
    """For shtab: functions of the shells that complete some words as well as files or folders."""
    function = f"_sonoedge_{kind}_{'_'.join(words)}"
    listed = " ".join(words)
    return {
        **paths,
        "bash": function,
        "zsh": function,
        "preamble": {
            "bash": f'{function}() {{\n  compgen -W \'{listed}\' -- "$1"\n  {paths["bash"]} "$1"\n}}\n',
            "zsh": f"{function}() {{\n  _alternative 'words:word:({listed})' 'paths:path:{paths['zsh']}'\n}}\n",
        },
    }
