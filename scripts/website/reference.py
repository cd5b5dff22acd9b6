"""The reference pages of the site, written from the code: commands, Python, schema, exit codes, environment."""

from __future__ import annotations

import argparse
import ast
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from sonoedge.edge_runtime import cli, errors

ROOT = Path(__file__).resolve().parents[2]
FOLDER = "docs/reference"
PACKAGES = ("edge_runtime", "train", "export", "benchmarks")


def pages() -> dict[str, str]:
    """Path and Markdown of every reference page."""
    written = {
        **{f"commands-{group.partition(':')[0]}": _commands(group) for group in cli._GROUPS},
        "python": _python(),
        "schema": _schema(),
        "exit-codes": _exit_codes(),
        "environment": _environment(),
    }
    index = [
        f"- [{text.splitlines()[0].removeprefix('# ')}]({name}.md): {text.splitlines()[2]}"
        for name, text in written.items()
    ]
    head = "# Reference\n\nWritten from the code each time the site is built.\n\n"
    return {f"{FOLDER}/README.md": head + "\n".join(index) + "\n"} | {
        f"{FOLDER}/{name}.md": text for name, text in written.items()
    }


def _commands(group: str) -> str:
    name, _, about = group.partition(": ")
    parts = [f"# Commands: {name}", f"{about[0].upper()}{about[1:]}."]
    for command, _, summary in cli._GROUPS[group]:
        parts += [f"## sonoedge {command}", f"{summary[0].upper()}{summary[1:]}.".replace("?.", "?")]
        parts += [f"```text\n{help_of(command)}\n```"]
    return "\n\n".join(parts) + "\n"


def help_of(command: str) -> str:
    """What ``sonoedge COMMAND --help`` prints on a terminal of 80 columns."""
    with mock.patch.dict(os.environ, {"COLUMNS": "80", "NO_COLOR": "1"}):
        for variable in [name for name in os.environ if name.startswith("SONOEDGE_")]:
            del os.environ[variable]
        _, parser = cli.open_command(command)
        return argparse.ArgumentParser.format_help(parser).rstrip().replace(str(Path.home()), "~")


def _python() -> str:
    parts = [
        "# Python",
        "What `import sonoedge` gives on a device, and what `sonoedge.train`, `sonoedge.export` and "
        "`sonoedge.benchmarks` add on a workstation. Everything else is private.",
    ]
    for package in ("sonoedge", *(f"sonoedge.{name}" for name in PACKAGES[1:])):
        names = [name for name in public(package) if name != "__version__"]
        members = "".join(f"\n        - {name}" for name in names)
        parts.append(f"::: {package}\n    options:\n      heading_level: 2\n      members:{members}")
    return "\n\n".join(parts) + "\n"


def public(package: str) -> list[str]:
    """The names in ``__all__``, read without importing: the workstation's packages need TensorFlow."""
    path = ROOT.joinpath(*package.split("."), "__init__.py")
    for statement in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__all__":
            names: list[str] = ast.literal_eval(statement.value)
            return names
    raise LookupError(f"{package} has no __all__")


def _schema() -> str:
    return (
        "# The bundle's schema\n\nEvery object of bundle.json and what its fields mean. What the folder holds and "
        "how it is read: [the bundle](../../edge_runtime/README.md#the-bundle).\n\n"
        "::: sonoedge.edge_runtime.bundle.contract\n"
        "    options:\n      heading_level: 2\n      show_root_heading: false\n"
    )


def _exit_codes() -> str:
    rows = {0: ("", "Everything that was asked for was done.")}
    for error in sorted(_errors(errors.SonoEdgeError), key=lambda error: error.exit_code):
        name, about = rows.get(error.exit_code, ("", ""))
        line = (error.__doc__ or "").strip().splitlines()[0]
        own = "exit_code" in vars(error)
        rows[error.exit_code] = (
            ", ".join(filter(None, [name, f"`{error.__name__}`"])),
            line if own or not about else about,
        )
    rows[errors.REFUSED_EXIT_CODE] = (
        "",
        "`predict`, `explain`, `stream`: an image was refused, none was unreadable.",
    )
    lines = [f"| {code} | {name or '–'} | {about} |" for code, (name, about) in sorted(rows.items())]
    return (
        "# Exit codes\n\nA command ends with one of these codes; in Python each is an error.\n\n"
        "| code | error in Python | meaning |\n|---|---|---|\n" + "\n".join(lines) + "\n\nCodes that "
        "only one command has stand in [errors and exit codes](../../edge_runtime/README.md#errors-and-exit-codes) "
        "and in [benchmarks](../../benchmarks/README.md#exit-codes).\n"
    )


def _errors(base: type[errors.SonoEdgeError]) -> Iterator[type[errors.SonoEdgeError]]:
    yield base
    for error in base.__subclasses__():
        if error.__module__ == errors.__name__:
            yield from _errors(error)


@dataclass(frozen=True)
class Variable:
    """An environment variable, the file that reads it, and what is said there."""

    name: str
    path: str
    about: str


def variables() -> list[Variable]:
    """Every environment variable that the code reads by name; Python's own are left out."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for name, about in _read(path):
                if not name.startswith("PYTHON"):
                    found.setdefault(name, Variable(name, path.relative_to(ROOT).as_posix(), about))
    return sorted(found.values(), key=lambda variable: (not variable.name.startswith("SONOEDGE"), variable.name))


def _read(path: Path) -> Iterator[tuple[str, str]]:
    """Name, and the first sentence of the function that reads it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    constants = {
        ast.unparse(node.targets[0]): node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
    }
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            for call in ast.walk(function):
                if isinstance(call, ast.Call) and ast.unparse(call.func) == "os.environ.get":
                    first = call.args[0]
                    name = first.value if isinstance(first, ast.Constant) else constants[ast.unparse(first)]
                    about = ast.get_docstring(function) or ast.get_docstring(tree) or ""
                    yield str(name), re.split(r"(?<=[.;])\s", " ".join(about.split()))[0]


def _environment() -> str:
    lines = [f"| `{item.name}` | {item.about} | `{item.path}` |" for item in variables()]
    return (
        "# Environment variables\n\nWhat SonoEdge reads from the environment, and where. An option of a command "
        "wins over its variable.\n\n| variable | read for | read in |\n|---|---|---|\n" + "\n".join(lines) + "\n"
    )
