"""The matrix and the mutants: what they would run, and that a mutant is one small change."""

from __future__ import annotations

import ast

import pytest

from scripts.support import matrix, mutants
from tests.helpers.places import ROOT

CODE = '''def f(a, b: int = 3) -> bool:
    """Not < this."""
    return a + b <= 2 and not a  # or this
'''


def test_a_mutant_is_one_small_change() -> None:
    found = mutants.mutants("x.py", CODE)
    assert [(mutant.line, mutant.after) for mutant in found] == [
        (1, "def f(a, b: int = 4) -> bool:"),
        (3, "return a + b < 2 and not a  # or this"),
        (3, "return a + b <= 2 and a  # or this"),
        (3, "return a + b <= 2 or not a  # or this"),
        (3, "return a + b <= 3 and not a  # or this"),
        (3, "return a - b <= 2 and not a  # or this"),
    ]


@pytest.mark.parametrize("name", mutants.TARGETS)
def test_the_targets_are_there_and_their_mutants_are_python(name: str) -> None:
    target = mutants.TARGETS[name]
    assert all((ROOT / path).is_file() for path in (*target.files, *target.tests))
    picked = mutants.chosen(target, 25, mutants.SEED)
    assert picked == mutants.chosen(target, 25, mutants.SEED)
    for mutant in picked:
        assert ast.dump(ast.parse(mutant.text)) != ast.dump(ast.parse((ROOT / mutant.path).read_text()))


def test_the_matrix_leaves_tensorflow_out() -> None:
    needed = matrix.requirements()
    assert any(line.startswith("pytest") for line in needed) and any(line.startswith("numpy") for line in needed)
    assert not [line for line in needed if line.startswith(("tensorflow", "keras", "sonoedge"))]
    assert matrix.versions() == ["3.11", "3.12", "3.13"]
    row = matrix.run("3.99", ROOT)
    assert (row["outcome"], row["why"]) == ("not run", "no python3.99 here")
