"""Quantized OpenVINO files: names, float operators, the cache, float16 weights."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from nncf.quantization.advanced_parameters import QuantizationParameters

from sonoedge.export.convert.graphs import read_openvino
from sonoedge.export.quantize import quantizers
from sonoedge.export.quantize.quantization import (
    compress_openvino,
    quantize_openvino,
    quantized_tensors,
    set_ranges_openvino,
)
from sonoedge.export.quantize.ranges import activation_ranges
from sonoedge.export.quantize.recipes import Recipe, Rule, recipe_for
from tests.helpers.int8_models import Bench, bench, outputs, two_branches


def test_zero_is_one_of_openvino_s_steps(vino: Bench) -> None:
    """Padding and operators without activity give zeros: they must stay zeros."""
    model = quantize_openvino(read_openvino(vino.source.openvino_float), vino.source.activations.first(1)[0])
    set_ranges_openvino(model, dict.fromkeys(quantized_tensors(model), (-0.37, 2.11)))
    ends = [
        [float(node.input_value(i).get_node().get_data()) for i in range(1, 5)]
        for node in model.get_ordered_ops()
        if node.get_type_name() == "FakeQuantize" and node.input_value(0).get_node().get_type_name() != "Constant"
    ]
    assert ends
    for low, high, low_out, high_out in ends:
        assert (low, high) == (low_out, high_out)
        step = (high - low) / 255
        assert step == pytest.approx((2.11 + 0.37) / 255, rel=1e-6)
        assert -low / step == pytest.approx(round(-low / step), abs=1e-3)


def test_openvino_names_do_not_change_between_conversions(vino: Bench, tmp_path: Path) -> None:
    from sonoedge.export.formats import Source

    tmp_path.mkdir(exist_ok=True)
    again = Source(vino.source.model, vino.source.calibration, tmp_path, tmp_path / "cache", progress=False)
    first, second = (source.quantizer("openvino").operators for source in (vino.source, again))
    assert first == second
    assert any(op.name == "left/Convolution_0" for op in first)
    # The same bytes: else the cache of quantized files would never be hit by the next run.
    for suffix in (".xml", ".bin"):
        files = [source.openvino_float.with_suffix(suffix) for source in (vino.source, again)]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_openvino_keeps_the_named_operators_in_float_and_caches(
    vino: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quantizer = vino.source.quantizer("openvino")
    path = tmp_path / "backbone.xml"
    quantizer.build(path, Recipe(rules=(Rule("^left/"), Rule("^left.right/"))))
    exact = outputs(vino.evaluator.float_path, "openvino", vino)
    found = outputs(path, "openvino", vino)
    for a, b in zip(found, exact, strict=True):
        np.testing.assert_allclose(a["left"], b["left"], rtol=1e-4, atol=1e-3)
        assert np.abs(a["right"] - b["right"]).max() > 0
    first = path.with_suffix(".bin").read_bytes()
    monkeypatch.setattr(
        "sonoedge.export.quantize.quantizers.quantize_openvino", lambda *_, **__: pytest.fail("quantized again")
    )
    quantizer.build(path, Recipe(rules=(Rule("^left/"), Rule("^left.right/"))))
    assert path.with_suffix(".bin").read_bytes() == first


@pytest.mark.parametrize("updated", ["nncf", "openvino"])
def test_another_version_of_the_tools_quantizes_again(
    updated: str, vino: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vino.source.quantizer("openvino").build(tmp_path / "backbone.xml", Recipe())
    calls: list[str] = []
    quantize = quantizers.quantize_openvino
    monkeypatch.setattr(quantizers, "quantize_openvino", lambda *a, **k: calls.append("again") or quantize(*a, **k))
    vino.source.quantizer("openvino").build(tmp_path / "backbone.xml", Recipe())
    assert not calls
    monkeypatch.setattr(quantizers, "version", lambda name: "99" if name == updated else version(name))
    vino.source.quantizer("openvino").build(tmp_path / "backbone.xml", Recipe())
    assert calls


def test_openvino_stores_float16_weights_and_computes_in_float32(vino: Bench, tmp_path: Path) -> None:
    quantizer = vino.source.quantizer("openvino")
    size, found = {}, {}
    for kept in ("float", "float16"):
        path = tmp_path / kept / "backbone.xml"
        path.parent.mkdir()
        quantizer.build(
            path, Recipe(rules=tuple(Rule(rule, precision=kept) for rule in ("^left/", "^left.right/")))
        )
        size[kept] = path.with_suffix(".bin").stat().st_size
        found[kept] = outputs(path, "openvino", vino)
    # At least the kernel in the middle, 8 x 8 of 3 x 3.
    assert size["float16"] <= size["float"] - 2 * 8 * 8 * 9
    for half, exact in zip(found["float16"], found["float"], strict=True):
        np.testing.assert_array_equal(half["right"], exact["right"])
        error = np.linalg.norm(half["left"] - exact["left"]) / np.linalg.norm(exact["left"])
        assert 0 < error < 2e-3


@pytest.mark.slow
@pytest.mark.parametrize("fragile", [None, 0])
def test_openvino_spared_afterwards_equals_never_quantized(fragile: int | None, tmp_path: Path) -> None:
    """Each operator is spared alone: the others must not depend on it.

    Most files are equal to the last bit; in others OpenVINO fuses operators in another way.
    """
    import nncf
    import openvino

    place = bench(tmp_path, two_branches(fragile), "openvino", images=8)
    quantizer = place.source.quantizer("openvino")
    exact = outputs(place.evaluator.float_path, "openvino", place)
    everything = quantize_openvino(read_openvino(place.source.openvino_float), place.source.activations.first(1)[0])
    low, high = activation_ranges(quantizer.statistics, "average")
    ranges = dict(zip(quantizer.statistics.names, zip(low.tolist(), high.tolist(), strict=True), strict=True))
    assert set(quantized_tensors(everything)) <= set(ranges)
    weighted = [op.name for op in quantizer.operators if op.macs]
    assert weighted
    for name in weighted:
        quantizer.build(
            tmp_path / "backbone.xml", recipe_for(frozenset({name}), quantizer.operators, ranges="average")
        )
        fresh = nncf.quantize(
            read_openvino(place.source.openvino_float),
            nncf.Dataset(place.source.activations.first(1)),
            subset_size=1,
            preset=nncf.QuantizationPreset.MIXED,
            target_device=nncf.TargetDevice.CPU,
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                activations_quantization_params=QuantizationParameters(per_channel=False),
                disable_bias_correction=True,
                backend_params={"compress_weights": False},
            ),
            ignored_scope=nncf.IgnoredScope(names=[name]),
        )
        set_ranges_openvino(fresh, ranges)
        compress_openvino(fresh)
        openvino.save_model(fresh, str(tmp_path / "fresh.xml"), compress_to_fp16=False)
        ours, theirs = (_errors(tmp_path / f"{stem}.xml", exact, place) for stem in ("backbone", "fresh"))
        assert theirs.keys() == ours.keys() and max(theirs.values()) > 0
        for branch in theirs:
            assert ours[branch] <= 1.05 * theirs[branch]


def _errors(path: Path, exact: list[dict[str, np.ndarray]], place: Bench) -> dict[str, float]:
    """Root mean square error of each map of an OpenVINO file."""
    found = outputs(path, "openvino", place)
    return {
        name: float(np.sqrt(np.mean([(f[name] - e[name]) ** 2 for f, e in zip(found, exact, strict=True)])))
        for name in exact[0]
    }
