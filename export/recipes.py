"""Quantization recipes: which operators are quantized how, as data that can be stored and repeated.

A recipe is a base precision and rules; of the rules that match an operator the last one counts::

    {"base": "w8a8", "rules": [{"regex": "efficientnetb0", "operation": "*", "precision": "float"}]}

``regex`` is searched in the operator's name (its path in the graph), ``operation`` is ``*`` or an operator type in
the runtime's own spelling (``MUL`` in TensorFlow Lite, ``Multiply`` in OpenVINO), ``precision`` is ``float`` or the
base.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge_runtime.errors import UsageError

BASES = ("w8a8", "w8a16")


@dataclass(frozen=True)
class Operator:
    """One operator of a float backbone, in execution order.

    Attributes:
        name: path in the graph.
        operation: type, in the runtime's spelling.
        branches: the branch outputs that depend on it.
    """

    name: str
    operation: str
    branches: frozenset[str]


@dataclass(frozen=True)
class Rule:
    """Operators whose name matches ``regex`` and whose type is ``operation`` get ``precision``."""

    regex: str
    operation: str = "*"
    precision: str = "float"


@dataclass(frozen=True)
class Recipe:
    """Base precision and rules; see the module."""

    base: str = "w8a8"
    rules: tuple[Rule, ...] = ()

    @property
    def precision(self) -> str:
        """What a table calls it: the base, or ``mixed``."""
        return "mixed" if self.rules else self.base

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types; `parse_recipe` reads them back."""
        return {"base": self.base, "rules": [asdict(rule) for rule in self.rules]}


def parse_recipe(body: Any) -> Recipe:
    """Build a recipe from decoded JSON.

    Raises:
        UsageError: an unknown key, a wrong type, an invalid expression or precision.
    """
    if not isinstance(body, dict) or set(body) - {"base", "rules"}:
        raise UsageError('A recipe is a JSON object with the keys "base" and "rules", and no others.')
    base, rules = body.get("base", "w8a8"), body.get("rules", [])
    if base not in BASES:
        raise UsageError(f"A recipe's base is one of {', '.join(BASES)}. Received: {base!r}.")
    if not isinstance(rules, list):
        raise UsageError("A recipe's rules are a list.")
    return Recipe(base, tuple(_parse_rule(rule, number, base) for number, rule in enumerate(rules)))


def read_recipe(path: Path) -> Recipe:
    """Read a recipe file; see `parse_recipe`."""
    try:
        return parse_recipe(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise UsageError(f"No such recipe file: {path}") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UsageError(f"{path} is not valid JSON: {error}") from error


def float_operators(recipe: Recipe, operators: Sequence[Operator]) -> frozenset[str]:
    """Names of the operators that the recipe keeps in float.

    Raises:
        UsageError: a rule that matches no operator.
    """
    chosen: set[str] = set()
    for rule in recipe.rules:
        hits = {
            operator.name
            for operator in operators
            if rule.operation in {"*", operator.operation} and re.search(rule.regex, operator.name)
        }
        if not hits:
            raise UsageError(f"The recipe's rule {rule.regex!r} ({rule.operation}) matches no operator.")
        chosen = chosen | hits if rule.precision == "float" else chosen - hits
    return frozenset(chosen)


def recipe_for(names: frozenset[str], operators: Sequence[Operator], base: str = "w8a8") -> Recipe:
    """The shortest recipe that keeps exactly these operators in float.

    A whole sub-graph becomes one rule on its scope, the first path component that all of its operators share and
    no other one has; anything else is listed by name.
    """
    if not names:
        return Recipe(base)
    others = [operator.name for operator in operators if operator.name not in names]
    shared = set.intersection(*(_components(name) for name in names))
    for component in sorted(shared, key=lambda c: (len(c), c)):
        regex = f"(^|[/;]){re.escape(component)}/"
        if not any(re.search(regex, other) for other in others):
            return Recipe(base, (Rule(regex),))
    exact = "|".join(re.escape(name) for name in sorted(names))
    return Recipe(base, (Rule(f"^(?:{exact})$"),))


def _components(name: str) -> set[str]:
    parts: set[str] = set()
    for path in name.split(";"):
        parts |= set(path.split("/")[:-1])
    return parts


def _parse_rule(body: Any, number: int, base: str) -> Rule:
    where = f"Rule {number} of the recipe"
    if not isinstance(body, dict) or "regex" not in body or set(body) - {"regex", "operation", "precision"}:
        raise UsageError(f'{where} has the keys "regex", "operation" and "precision", and no others.')
    rule = Rule(body["regex"], body.get("operation", "*"), body.get("precision", "float"))
    if not all(isinstance(value, str) for value in (rule.regex, rule.operation, rule.precision)):
        raise UsageError(f"{where} has a value that is not text.")
    if rule.precision not in {"float", base}:
        raise UsageError(f"{where}: precision is float or {base}. Received: {rule.precision!r}.")
    try:
        re.compile(rule.regex)
    except re.error as error:
        raise UsageError(f"{where}: {rule.regex!r} is not a regular expression: {error}") from error
    return rule
