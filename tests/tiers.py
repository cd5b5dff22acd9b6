"""The tiers of the tests: ``unit``, which runs without TensorFlow, and ``slow``, which runs only if asked for.

A test is ``slow`` if it is marked so, or if it uses a fixture that distils, exports or measures a whole model.

Every test is ``unit`` unless it is ``slow``, is marked ``long`` or ``tensorflow``, or its module, its function or
one of its fixtures imports TensorFlow or Keras: directly or through a module of this project.

`pytest -m unit` hides TensorFlow and Keras from the process and leaves out the files that import them, so that it
runs without them, and a test that needs them without saying so fails.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.helpers.places import ROOT

HIDDEN = ("tensorflow", "keras")
SLOW_FIXTURES = {"exported", "full_bundle", "report", "student_run"}
"""Each takes about a minute or more."""
PACKAGES = ("sonoedge", "tests")
"""Whose imports are followed; other packages are taken to import neither."""


def pytest_configure(config: pytest.Config) -> None:
    """An import of a name that `sys.modules` maps to None is a ModuleNotFoundError."""
    if _is_unit_run(config):
        sys.modules.update(dict.fromkeys(HIDDEN))  # type: ignore[arg-type]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """A unit run does not import what imports TensorFlow; None leaves the decision to pytest."""
    is_test = collection_path.name.startswith("test_") and collection_path.suffix == ".py"
    return True if is_test and _is_unit_run(config) and imports_tensorflow(collection_path) else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the slow tests and the unit tests, before pytest selects by marker."""
    for item in items:
        if isinstance(item, pytest.Function):
            if SLOW_FIXTURES & set(item.fixturenames):
                item.add_marker("slow")
            if is_unit(item):
                item.add_marker("unit")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A unit run that has TensorFlow all the same is a failure, whatever its tests say."""
    if _is_unit_run(session.config) and (found := [name for name in HIDDEN if sys.modules.get(name)]):
        print(f"\nA unit run must not import {' and '.join(found)}.", file=sys.stderr)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def is_unit(item: pytest.Function) -> bool:
    """The rule at the top of this module."""
    if any(map(item.get_closest_marker, ("slow", "long", "tensorflow"))) or imports_tensorflow(item.path):
        return False
    definitions = [d for name in item.fixturenames for d in item._fixtureinfo.name2fixturedefs.get(name, ())]
    functions = [item.function, *(definition.func for definition in definitions)]
    # Among the names of a function's code are those of the modules that it imports.
    names = {name for function in functions for name in getattr(function, "__code__", _EMPTY).co_names}
    return not any(_is_tensorflow(name) for name in names)


_EMPTY = compile("", "", "exec")


@cache
def imports_tensorflow(path: Path) -> bool:
    """Whether an import of this file imports TensorFlow or Keras; imports within functions do not count."""
    return any(_is_tensorflow(name) for name in _imported(ast.parse(path.read_text(encoding="utf-8")).body))


def _is_tensorflow(module: str) -> bool:
    """Whether this is TensorFlow, Keras, or a module of ours that imports one of them."""
    parts = module.split(".")
    if parts[0] not in PACKAGES:
        return parts[0] in HIDDEN
    if module in _SEEN:
        return _SEEN[module]
    _SEEN[module] = False  # a circle ends here
    places = [ROOT.joinpath(*parts[:count]) for count in range(1, len(parts) + 1)]
    files = [file for place in places for file in (place / "__init__.py", place.with_suffix(".py"))]
    _SEEN[module] = any(imports_tensorflow(file) for file in files if file.is_file())
    return _SEEN[module]


_SEEN: dict[str, bool] = {}


def _imported(body: list[ast.stmt]) -> Iterator[str]:
    """Names of the modules that these statements import; of ``from a import b`` both ``a`` and ``a.b``."""
    for statement in body:
        if isinstance(statement, ast.Import):
            yield from (name.name for name in statement.names)
        elif isinstance(statement, ast.ImportFrom) and statement.module:
            yield statement.module
            yield from (f"{statement.module}.{name.name}" for name in statement.names)
        elif isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
            yield from _imported(statement.orelse)
        elif isinstance(statement, ast.If | ast.Try | ast.With):
            for part in ("body", "orelse", "finalbody"):
                yield from _imported(getattr(statement, part, []))


def _is_unit_run(config: pytest.Config) -> bool:
    return config.option.markexpr.split()[:1] == ["unit"]
