"""Commands as thin layers over functions: an option is named like the function's parameter and has its default."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from inspect import Parameter, signature
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def take_defaults(parser: argparse.ArgumentParser, function: Callable[..., Any]) -> None:
    """Give the parser's options the defaults of the function's parameters of the same names.

    Two stay as the parser has them: a command shows bars (``progress``) unless told otherwise, a function does not;
    and the environment may name the ``bundle`` of a command.
    """
    for name, parameter in signature(function).parameters.items():
        if name not in {"bundle", "progress"} and parameter.default is not Parameter.empty:
            parser.set_defaults(**{name: parameter.default})


def call_with(function: Callable[..., T], args: argparse.Namespace, **others: Any) -> T:
    """Call a function with the parsed options that it has parameters for, and with ``others``."""
    given = {name: getattr(args, name) for name in signature(function).parameters if hasattr(args, name)}
    return function(**(given | others))


def names_in(names: str | Sequence[str] | None) -> list[str]:
    """Names from a list, or from a text with commas between them; empty for None and for an empty text."""
    parts = names.split(",") if isinstance(names, str) else list(names or ())
    return [name.strip() for name in parts if name.strip()]


def path_of(value: Any) -> Path | None:
    """A path from whatever stands for one; None stays None."""
    return None if value is None else Path(value)
