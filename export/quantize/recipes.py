"""Quantization recipes: which operators are quantized how, as data that can be stored and repeated.

A recipe is a base precision, a rule for activation ranges, and rules for operators. If several rules match an
operator, the last one counts::

    {"base": "w8a8", "ranges": "percentile",
     "rules": [{"regex": "efficientnetb0", "operation": "*", "precision": "float"}]}

A file may say ``"kind": "sonoedge-recipe", "schema_version": 1`` as well; in bundle.json its place says what it is.
``regex`` is searched in the operator's name (its path in the graph), ``operation`` is ``*`` or an operator type in
the runtime's own spelling (``MUL`` in TensorFlow Lite, ``Multiply`` in OpenVINO), ``precision`` is ``float``,
``float16``, ``w8a8`` or, in TensorFlow Lite, one of `TFLITE_ONLY`. ``float16`` and ``weight_only`` calculate in
float32; their weights are stored as float16, or as int8 per channel, and become float32 when the file is opened.
``dynamic`` runs convolutions on int8 weights and int8 activations, whose range is measured at run time: machines do
that differently. Without ``ranges`` the runtime's default rule is used. With ``"rounding": "fitted"`` int8 weights
are rounded for a layer's results (see `export.quantize.rounding`), without it to the nearest step.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sonoedge.edge_runtime.errors import DataError, UsageError
from sonoedge.edge_runtime.typed_json import read_record
from sonoedge.export.convert.operators import Operator

KIND, SCHEMA_VERSION = "sonoedge-recipe", 1
BASES = ("w8a8", "w8a16")
FLOAT = "float"
FLOAT16 = "float16"
WEIGHT_ONLY = "weight_only"
DYNAMIC = "dynamic"
TFLITE_ONLY = ("w8a16", WEIGHT_ONLY, DYNAMIC)
RANGES = ("average", "extremes", "percentile", "mse")
"""Rules for activation ranges, see `export.quantize.ranges.activation_ranges`."""
ROUNDINGS = ("nearest", "fitted")
_PRECISIONS = (FLOAT, FLOAT16, "w8a8", *TFLITE_ONLY)


@dataclass(frozen=True)
class Rule:
    """Operators whose name matches ``regex`` and whose type is ``operation`` get ``precision`` and ``ranges``.

    If ``ranges`` is empty, the operators keep their range rule.
    """

    regex: str
    operation: str = "*"
    precision: str = FLOAT
    ranges: str = ""


@dataclass(frozen=True)
class Recipe:
    """Base precision, range rule (empty: the runtime's default), rules, and rounding of weights; see the module."""

    base: str = "w8a8"
    rules: tuple[Rule, ...] = ()
    ranges: str = ""
    rounding: str = "nearest"

    @property
    def precision(self) -> str:
        """Word for tables: the base, or ``mixed`` if a rule has another precision."""
        return "mixed" if any(rule.precision != self.base for rule in self.rules) else self.base

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types; `parse_recipe` reads them back."""
        body = {"base": self.base, "ranges": self.ranges, "rules": [asdict(rule) for rule in self.rules]}
        return body | ({"rounding": self.rounding} if self.rounding != ROUNDINGS[0] else {})


def parse_recipe(body: Any) -> Recipe:
    """Build a recipe from decoded JSON.

    Raises:
        UsageError: an unknown key, a wrong type, an invalid expression or precision.
    """
    head = {"kind": KIND, "schema_version": SCHEMA_VERSION}
    if isinstance(body, dict):
        for key, wanted in head.items():
            if body.get(key, wanted) != wanted:
                raise UsageError(f"A recipe's {key}, if it has one, is {wanted!r}. Received: {body[key]!r}.")
        body = {key: value for key, value in body.items() if key not in head}
    try:
        recipe = read_record(Recipe, body, "recipe")
    except DataError as error:
        keys = (
            "A recipe has the keys base, ranges, rules, rounding; a rule has regex, operation, precision, ranges."
        )
        raise UsageError(f"{error} {keys}") from error
    if recipe.base not in BASES:
        raise UsageError(f"A recipe's base is one of {', '.join(BASES)}. Received: {recipe.base!r}.")
    if recipe.ranges and recipe.ranges not in RANGES:
        raise UsageError(f"A recipe's ranges are one of {', '.join(RANGES)}. Received: {recipe.ranges!r}.")
    if recipe.rounding not in ROUNDINGS:
        raise UsageError(f"A recipe's rounding is one of {', '.join(ROUNDINGS)}. Received: {recipe.rounding!r}.")
    for number, rule in enumerate(recipe.rules):
        _check_rule(rule, f"Rule {number} of the recipe")
    return recipe


def read_recipe(path: Path) -> Recipe:
    """Read a recipe from a JSON file.

    Raises:
        UsageError: the file cannot be read, is not JSON, or holds no recipe (see `parse_recipe`).
    """
    try:
        return parse_recipe(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UsageError(f"The recipe file {path} cannot be read: {error.strerror}.") from error
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise UsageError(f"{path} is not valid JSON: {error}") from error


def assignments(recipe: Recipe, operators: Sequence[Operator]) -> dict[str, str]:
    """Precision of every operator by name.

    Raises:
        UsageError: a rule that matches no operator.
    """
    chosen = {operator.name: recipe.base for operator in operators}
    for rule in recipe.rules:
        chosen |= dict.fromkeys(_matching(rule, operators), rule.precision)
    return chosen


def int8_share(recipe: Recipe, operators: Sequence[Operator]) -> float:
    """Share of the multiply-adds that run on int8 weights and activations, 0–1; 1 for a graph without any.

    Raises:
        UsageError: a rule that matches no operator.
    """
    precisions = assignments(recipe, operators)
    total = sum(operator.macs for operator in operators)
    int8 = sum(operator.macs for operator in operators if precisions[operator.name] in {"w8a8", DYNAMIC})
    return int8 / total if total else 1.0


def range_rules(recipe: Recipe, operators: Sequence[Operator]) -> dict[str, str]:
    """Rule for the range of every operator's result, by operator name; empty: the runtime's default.

    Raises:
        UsageError: a rule that matches no operator.
    """
    chosen = {operator.name: recipe.ranges for operator in operators}
    for rule in recipe.rules:
        if rule.ranges:
            chosen |= dict.fromkeys(_matching(rule, operators), rule.ranges)
    return chosen


def _matching(rule: Rule, operators: Sequence[Operator]) -> list[str]:
    hits = [
        operator.name
        for operator in operators
        if rule.operation in {"*", operator.operation} and re.search(rule.regex, operator.name)
    ]
    if not hits:
        known = ", ".join(sorted({operator.operation for operator in operators}))
        raise UsageError(
            f"The recipe's rule {rule.regex!r} (operation {rule.operation}) matches no operator. Operators are "
            f"called like {operators[0].name!r}; operations: {known}."
        )
    return hits


def recipe_for(
    names: frozenset[str],
    operators: Sequence[Operator],
    base: str = "w8a8",
    ranges: str | Mapping[str, str] = "",
    kept: str = FLOAT,
    rounding: str = "nearest",
) -> Recipe:
    """The shortest recipe that keeps exactly these operators in float, or in another precision.

    A whole sub-graph becomes one rule on its scope: the path component that all of its operators share and no other
    operator has. Other operators are listed by name.

    Args:
        names: of the operators to keep.
        operators: all operators of the backbone.
        base: precision of the others.
        ranges: one range rule for all activations, or one by branch.
        kept: precision of the operators to keep.
        rounding: of the int8 weights.
    """
    last = [replace(_rule_on(names, operators), precision=kept)] if names else []
    if isinstance(ranges, str):
        return Recipe(base, tuple(last), ranges, rounding)
    # The most frequent range rule becomes the recipe's own; other branches get rules for their operators.
    common = max(sorted(set(ranges.values())), key=list(ranges.values()).count)
    rules = []
    for branch, rule in ranges.items():
        own = frozenset(op.name for op in operators if op.branches == {branch})
        if rule != common and own:
            rules.append(replace(_rule_on(own, operators), precision=base, ranges=rule))
    return Recipe(base, (*rules, *last), common, rounding)


def _rule_on(names: frozenset[str], operators: Sequence[Operator]) -> Rule:
    """A rule that matches exactly these operators: on their common scope if no other operator lies in it."""
    others = [operator.name for operator in operators if operator.name not in names]
    shared = set.intersection(*(_components(name) for name in names))
    for component in sorted(shared, key=lambda c: (len(c), c)):
        regex = f"(^|[/;]){re.escape(component)}/"
        if not any(re.search(regex, other) for other in others):
            return Rule(regex)
    exact = "|".join(re.escape(name) for name in sorted(names))
    return Rule(f"^(?:{exact})$")


def _components(name: str) -> set[str]:
    parts: set[str] = set()
    for path in name.split(";"):
        parts |= set(path.split("/")[:-1])
    return parts


def _check_rule(rule: Rule, where: str) -> None:
    if rule.precision not in _PRECISIONS:
        raise UsageError(f"{where}: precision is one of {', '.join(_PRECISIONS)}. Received: {rule.precision!r}.")
    if rule.ranges and rule.ranges not in RANGES:
        raise UsageError(f"{where}: ranges are one of {', '.join(RANGES)}. Received: {rule.ranges!r}.")
    try:
        re.compile(rule.regex)
    except (re.error, RecursionError, OverflowError) as error:
        raise UsageError(f"{where}: {rule.regex!r} is not a regular expression: {error}") from error
