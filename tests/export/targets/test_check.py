"""What a target refuses: each sentence names the operator, its layer, and what to use instead."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from sonoedge.edge_runtime.errors import ModelError, UsageError
from sonoedge.export.targets.check import check_integers, check_operators, fragile_parts
from sonoedge.export.targets.division import without_division
from sonoedge.export.targets.table import TARGETS, target_called
from tests.export.targets.lite_graphs import Graph, changed, lesion_graph, quantized

INTEGER = [name for name, target in TARGETS.items() if target.is_integer]


def _resized(model: Any) -> None:
    graph = model.subgraphs[0]
    next(t for t in graph.tensors if t.name == b"stretched").shape = np.array([1, 12, 12, 8], np.int32)


def _dynamic(model: Any) -> None:
    model.subgraphs[0].tensors[0].shapeSignature = np.array([-1, 16, 16, 3], np.int32)


def _unknown(model: Any) -> None:
    code = model.operatorCodes[model.subgraphs[0].operators[6].opcodeIndex]
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.SIN


@pytest.mark.parametrize("name", INTEGER)
def test_the_lesion_network_passes_without_its_division(name: str) -> None:
    check_operators(without_division(lesion_graph()), TARGETS[name])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda _: None, ["DIV", "layer divided", "Use a multiplication"]),
        (_resized, ["RESIZE_BILINEAR", "layer stretched", "[4, 4] to [12, 12]", "by 2 only", "input size"]),
        (_dynamic, ["tensor image", "[-1, 16, 16, 3]", "must be fixed"]),
        (_unknown, ["SIN", "layer share", "--student mobilenet"]),
    ],
)
def test_what_the_target_does_not_take_is_named(change: Callable[[Any], None], words: list[str]) -> None:
    with pytest.raises(ModelError, match="cannot run on ethos-u55") as refused:
        check_operators(changed(lesion_graph(), change), TARGETS["ethos-u55"])
    assert [word for word in words if word not in str(refused.value)] == []


def test_each_target_has_rules_of_its_own() -> None:
    check_operators(lesion_graph(), TARGETS["ethos-u85"])  # it divides
    wide = changed(without_division(lesion_graph()), _resized)
    with pytest.raises(ModelError, match="by a power of two only"):
        check_operators(wide, TARGETS["ethos-u85"])
    check_operators(wide, TARGETS["edgetpu"])
    with pytest.raises(UsageError, match=r"--target is one of cpu, int8-only, ethos-u55.*'hexagon'"):
        target_called("hexagon")


def test_int8_throughout_and_exact_pixels() -> None:
    model = without_division(lesion_graph())
    check_integers(quantized(model))
    for wrong in (model, quantized(model, integer_ends=False)):
        with pytest.raises(ModelError, match=r"not int8 throughout.*float32"):
            check_integers(wrong)
    with pytest.raises(ModelError, match=r"not int8 throughout: .* in the layer (lateral|stem).*float32"):
        check_integers(quantized(model, spared="lateral"))

    def shift(parsed: Any) -> None:
        parsed.subgraphs[0].tensors[parsed.subgraphs[0].inputs[0]].quantization.zeroPoint = np.array([-127])

    with pytest.raises(ModelError, match="must be image - 128"):
        check_integers(changed(quantized(model), shift))


def test_swish_and_squeeze_and_excite_are_recognised() -> None:
    graph = Graph()
    stem = graph.convolution("image", "stem", 3, 8, 8, step=2)
    gate = graph.add("LOGISTIC", [stem], "gate", (1, 8, 8, 8))
    swish = graph.add("MUL", [stem, gate], "block/swish", (1, 8, 8, 8))
    axes = graph.tensor("axes", (2,), np.array([1, 2], np.int32))
    mean = graph.add("MEAN", [swish, axes], "mean", (1, 1, 1, 8), keepDims=True)
    share = graph.add("LOGISTIC", [mean], "share", (1, 1, 1, 8))
    model = graph.bytes(graph.add("MUL", [swish, share], "block/excite", (1, 8, 8, 8)))
    found = fragile_parts(model)
    assert found == "swish (first in block/swish) and squeeze-and-excite (first in block/excite)"
    assert fragile_parts(lesion_graph()) == ""


def test_operators_are_spelled_as_the_runtime_spells_them() -> None:
    known = {name for name in vars(schema.BuiltinOperator) if name.isupper()}
    assert [(t.name, t.operators - known) for t in TARGETS.values() if t.operators - known] == []


def test_the_lists_of_ethos_u_are_those_of_arms_compiler(tmp_path: Path) -> None:
    pytest.importorskip("ethosu", reason="needs the extra ethos-u")
    command = [sys.executable, "-P", "-m", "ethosu.vela", "--supported-ops-report"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    report = (tmp_path / "SUPPORTED_OPS.md").read_text()
    for name, chips in (("ethos-u55", "Ethos-U55 and Ethos-U65"), ("ethos-u85", "Ethos-U85")):
        table = report.split(f"## {chips} TFLite Summary Table")[1].split("\n## ")[0]
        listed = set(re.findall(r"^\| ([A-Z0-9_]+) \|", table, re.MULTILINE))
        assert TARGETS[name].operators == {
            operator for operator in listed if "VARIABLE" not in operator and "LSTM" not in operator
        }
