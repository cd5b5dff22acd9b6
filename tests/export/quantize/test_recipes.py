"""Recipes: JSON in, the same JSON out, and every way to get one wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonoedge.edge_runtime.errors import UsageError
from sonoedge.export.convert.operators import Operator
from sonoedge.export.quantize.recipes import (
    BASES,
    FLOAT,
    RANGES,
    Recipe,
    Rule,
    assignments,
    parse_recipe,
    range_rules,
    read_recipe,
    recipe_for,
)

OPERATORS = tuple(
    Operator(f"model/{net}/block{i}/{kind};", kind.upper(), frozenset({net}))
    for net in ("alpha", "beta")
    for i in range(3)
    for kind in ("conv", "mul")
)
NAMES = [operator.name for operator in OPERATORS]
RULES = st.builds(
    Rule,
    st.sampled_from(["alpha", "block1", "conv;$", "."]),
    st.sampled_from(["*", "CONV", "MUL"]),
    st.sampled_from([FLOAT, *BASES]),
    st.sampled_from(["", *RANGES]),
)
RECIPES = st.builds(
    Recipe, st.sampled_from(BASES), st.lists(RULES, max_size=4).map(tuple), st.sampled_from(["", *RANGES])
)


@given(RECIPES)
def test_recipes_survive_json(recipe: Recipe) -> None:
    assert parse_recipe(json.loads(json.dumps(recipe.to_json()))) == recipe
    assert recipe.precision == (
        "mixed" if {rule.precision for rule in recipe.rules} - {recipe.base} else recipe.base
    )


@given(st.sets(st.sampled_from(NAMES)))
def test_the_shortest_recipe_keeps_exactly_these_operators_in_float(names: set[str]) -> None:
    found = assignments(recipe_for(frozenset(names), OPERATORS), OPERATORS)
    assert {name for name, precision in found.items() if precision == FLOAT} == names
    assert set(found) == set(NAMES)


@given(st.sets(st.sampled_from(NAMES)), st.sampled_from(RANGES), st.sampled_from(RANGES))
def test_branches_may_have_ranges_of_their_own(names: set[str], alpha: str, beta: str) -> None:
    recipe = recipe_for(frozenset(names), OPERATORS, ranges={"alpha": alpha, "beta": beta})
    assert parse_recipe(recipe.to_json()) == recipe
    found = range_rules(recipe, OPERATORS)
    assert all(found[op.name] == {"alpha": alpha, "beta": beta}[min(op.branches)] for op in OPERATORS)
    precisions = assignments(recipe, OPERATORS)
    assert {name for name, precision in precisions.items() if precision == FLOAT} == names


def test_a_whole_sub_graph_is_one_rule() -> None:
    names = frozenset(name for name in NAMES if "/beta/" in name)
    (rule,) = recipe_for(names, OPERATORS).rules
    assert rule == Rule("(^|[/;])beta/")


def test_the_last_rule_that_matches_counts() -> None:
    recipe = Recipe("w8a8", (Rule("alpha"), Rule("block1", "MUL", "w8a16"), Rule("alpha/block2", "*", "w8a8")))
    found = assignments(recipe, OPERATORS)
    assert found["model/alpha/block0/conv;"] == FLOAT
    assert found["model/alpha/block1/mul;"] == "w8a16"
    assert found["model/alpha/block2/conv;"] == "w8a8"
    assert found["model/beta/block0/conv;"] == "w8a8"


@pytest.mark.parametrize("rule", [Rule("gamma"), Rule("alpha", "SOFTMAX")])
def test_a_rule_that_matches_nothing_is_refused_with_an_example(rule: Rule) -> None:
    with pytest.raises(UsageError, match="matches no operator") as caught:
        assignments(Recipe("w8a8", (rule,)), OPERATORS)
    assert NAMES[0] in str(caught.value)
    assert "CONV, MUL" in str(caught.value)


BAD = [
    [],
    "w8a8",
    {"bases": "w8a8"},
    {"base": "w4a4"},
    {"base": None},
    {"ranges": "guess"},
    {"ranges": 3},
    {"rules": {}},
    {"rules": ["alpha"]},
    {"rules": [{}]},
    {"rules": [{"regex": "("}]},
    {"rules": [{"regex": 3}]},
    {"rules": [{"regex": "a", "operation": None}]},
    {"rules": [{"regex": "a", "precision": "fp16"}]},
    {"rules": [{"regex": "a", "operator": "*"}]},
    {"rules": [{"regex": "a", "ranges": "guess"}]},
    {"kind": "sonoedge-benchmark-run"},
    {"schema_version": 2},
]


@pytest.mark.parametrize("body", BAD, ids=json.dumps)
def test_bad_recipes_are_refused(body: object) -> None:
    with pytest.raises(UsageError):
        parse_recipe(body)


def test_what_a_recipe_says_of_itself() -> None:
    head = {"kind": "sonoedge-recipe", "schema_version": 1}
    assert parse_recipe({**head, "base": "w8a16"}) == parse_recipe({"base": "w8a16"}) == Recipe("w8a16")
    with pytest.raises(UsageError, match=r"recipe has unknown keys: rule \(is rules meant\?\)"):
        parse_recipe({"rule": []})
    with pytest.raises(UsageError, match=r"recipe\.rules\[0\] has unknown keys: operator \(is operation meant\?\)"):
        parse_recipe({"rules": [{"regex": "a", "operator": "*"}]})


@pytest.mark.parametrize("content", [None, b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_bad_recipe_files_are_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "recipe.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=r"recipe\.json"):
        read_recipe(path)


def test_a_folder_is_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_recipe(tmp_path)
