"""Change the code at random places and see whether the tests notice; write docs/results/mutants.json.

    python scripts/support/mutants.py --count 100 --out docs/results/mutants.json
    python scripts/support/mutants.py --only trust,replay --count 10

Each mutant is one small change: a comparison, an arithmetic or a logical operator, a constant, a ``not``. A seed
chooses the places, so the same command on the same code tries the same ones. A mutant is killed if the tests of its
target fail, cannot be run, or take longer than the limit. One that survives is a test that is missing, or a change
that makes no difference; all of them are listed.
"""

from __future__ import annotations

import argparse
import ast
import json
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.faults.fault import Fault
from scripts.planted_faults import plant

ROOT = Path(__file__).resolve().parents[2]

LIMIT_S = 180
"""Seconds; tests that run longer count as having noticed."""
SEED = 7


@dataclass(frozen=True)
class Target:
    """Files that are changed, and the tests that must notice."""

    files: tuple[str, ...]
    tests: tuple[str, ...]
    heavy: bool = False


TARGETS = {
    "trust": Target(
        ("edge_runtime/bundle/trust.py",),
        tuple(f"tests/edge_runtime/bundle/test_{name}.py" for name in ("trust", "policy", "signature")),
    ),
    "replay": Target(
        ("edge_runtime/device/replay.py",),
        ("tests/edge_runtime/device/test_replay.py", "tests/edge_runtime/device/test_replay_decisions.py"),
    ),
    "gate": Target(
        ("edge_runtime/model/gate.py",),
        tuple(f"tests/edge_runtime/model/test_{name}.py" for name in ("gate", "assess", "drift", "refusals")),
        heavy=True,
    ),
    "evaluator": Target(("export/guard/evaluator.py",), ("tests/export/guard/test_evaluator.py",), heavy=True),
    "guard": Target(
        ("export/guard/search.py", "export/guard/comparison.py"),
        ("tests/export/guard/test_search.py", "tests/export/guard/test_comparison.py"),
        heavy=True,
    ),
}
_COMPARISONS = {
    ast.Lt: ("<", "<="), ast.LtE: ("<=", "<"), ast.Gt: (">", ">="), ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="), ast.NotEq: ("!=", "=="), ast.Is: ("is", "is not"), ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"), ast.NotIn: ("not in", "in"),
}  # fmt: skip
_ARITHMETIC = {ast.Add: ("+", "-"), ast.Sub: ("-", "+"), ast.Mult: ("*", "/"), ast.Div: ("/", "*")}


@dataclass(frozen=True)
class Mutant:
    """One change of a file: the text of line ``line`` before and after."""

    path: str
    line: int
    before: str
    after: str
    text: str


def mutants(path: str, text: str) -> list[Mutant]:
    """Every mutant of a file, in the order of its lines."""
    lines = text.encode().splitlines(keepends=True)
    starts = [sum(map(len, lines[:number])) for number in range(len(lines))]
    data, found = text.encode(), []

    def place(node: ast.AST, end: bool = False) -> int:
        line, column = (node.end_lineno, node.end_col_offset) if end else (node.lineno, node.col_offset)
        return starts[line - 1] + column

    for low, high, old, new in _changes(ast.parse(text), place):
        at = data.find(old.encode(), low, high)
        if at < 0:
            continue
        changed = (data[:at] + new.encode() + data[at + len(old.encode()) :]).decode()
        line = data[:at].count(b"\n")
        found.append(
            Mutant(path, line + 1, text.splitlines()[line].strip(), changed.splitlines()[line].strip(), changed)
        )
    return sorted(set(found), key=lambda mutant: (mutant.line, mutant.after))


def _changes(tree: ast.Module, place: Any) -> Iterator[tuple[int, int, str, str]]:
    """Bytes between which a text stands, the text, and what replaces it; annotations are left alone."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            for left, operator, right in zip(
                [node.left, *node.comparators], node.ops, node.comparators, strict=False
            ):
                yield (place(left, True), place(right), *_COMPARISONS[type(operator)])
        elif isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
            yield (place(node.left, True), place(node.right), *_ARITHMETIC[type(node.op)])
        elif isinstance(node, ast.BoolOp):
            old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
            yield place(node.values[0], True), place(node.values[1]), old, new
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            yield place(node), place(node.operand), "not ", ""
        elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            value = node.value
            new = str(not value) if isinstance(value, bool) else repr(value + 1)
            yield place(node), place(node, True), ast.unparse(node), new


def chosen(target: Target, count: int, seed: int) -> list[Mutant]:
    """``count`` of all mutants of a target's files, or all if there are fewer."""
    everyone = [m for path in target.files for m in mutants(path, (ROOT / path).read_text(encoding="utf-8"))]
    picked = random.Random(seed).sample(everyone, min(count, len(everyone)))
    return sorted(picked, key=lambda mutant: (mutant.path, mutant.line, mutant.after))


def run(name: str, count: int, jobs: int) -> dict[str, Any]:
    """Try the mutants of a target; the survivors are listed."""
    target = TARGETS[name]
    picked = chosen(target, count, SEED)
    faults = [
        Fault(
            f"{m.path}:{m.line}: {m.after}",
            m.path,
            (ROOT / m.path).read_text(encoding="utf-8"),
            m.text,
            target.tests,
            target.heavy,
        )
        for m in picked
    ]
    outcomes = plant(faults, jobs, LIMIT_S)
    if all(outcome.word == "BROKEN" and outcome.seconds == 0 for outcome in outcomes):
        raise SystemExit(f"{name}: the tests fail without a mutant.\n{outcomes[0].output[-2000:]}")
    rows = [
        {"file": m.path, "line": m.line, "before": m.before, "after": m.after, "killed": o.word != "GREEN"}
        for m, o in zip(picked, outcomes, strict=True)
    ]
    possible = sum(len(mutants(path, (ROOT / path).read_text(encoding="utf-8"))) for path in target.files)
    return {
        "target": name, "files": list(target.files), "tests": list(target.tests), "possible": possible,
        "tried": len(rows), "killed": sum(row["killed"] for row in rows), "mutants": rows,
    }  # fmt: skip


def main() -> int:
    """Try them; exit code 0 whatever survives, because the results page says it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(TARGETS), help="targets (default: %(default)s)")
    parser.add_argument("--count", type=int, default=100, help="mutants of each (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="at once (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, help="where the JSON goes; targets that it has and that are not tried stay"
    )
    args = parser.parse_args()
    rows = {name: run(name, args.count, args.jobs) for name in args.only.split(",")}
    from sonoedge.benchmarks.measure.environment import how_made, this_command

    if args.out and args.out.is_file():
        before = {row["target"]: row for row in json.loads(args.out.read_text(encoding="utf-8"))["targets"]}
        rows = {name: rows.get(name) or before[name] for name in TARGETS if name in rows or name in before}
    body = {
        **how_made([this_command("python scripts/support/mutants.py")], weights="none"),
        "seed": SEED,
        "targets": list(rows.values()),
    }
    body["not_run"] = [name for name in TARGETS if name not in rows]
    text = json.dumps(body, indent=1, ensure_ascii=False) + "\n"
    if args.out:
        args.out.write_text(text, encoding="utf-8")
    for row in rows.values():
        print(f"{row['target']}: {row['killed']} of {row['tried']} killed ({row['possible']} possible)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
