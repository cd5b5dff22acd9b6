"""Every method on a model that looks at one spot, and the rules that all of them keep."""

from __future__ import annotations

import re

import numpy as np
import pytest

from sonoedge.edge_runtime.errors import MissingExtraError, UsageError
from sonoedge.edge_runtime.explain.gradcam import stretch
from sonoedge.edge_runtime.explain.methods import table
from sonoedge.edge_runtime.explain.methods.budget import Budget
from sonoedge.edge_runtime.explain.methods.probe import Probe
from sonoedge.edge_runtime.explain.methods.table import METHODS, Method, method_of, methods_of

SIZE = (48, 60)
SPOT = (slice(28, 40), slice(10, 25))
ON_THE_DEVICE = [method for method in METHODS.values() if not method.extra]


def spot_probe(sign: float = 1.0) -> Probe:
    """The logit is the brightness of a spot; of two feature maps, the one that is bright there counts."""
    image = np.full((*SIZE, 3), 60.0, np.float32)
    image[SPOT] = 200.0
    image[4:16, 40:55] = 200.0  # as bright, but the model does not look there
    maps = np.zeros((1, 6, 6, 2), np.float32)
    maps[0, 4, 1, 0] = maps[0, 1, 4, 1] = 1.0
    outputs = {"map_a": maps, "cam": maps[:, :, :, 0], "logit": np.full((1, 1), score(image[None]), np.float32)}
    return Probe(image, outputs, sign, score, lambda found: float(36 * found["a"].mean(axis=(0, 1, 2))[0]))


def score(model_input: np.ndarray) -> float:
    return float(model_input[0][SPOT].mean() / 50.0)


def on_image(values: np.ndarray) -> np.ndarray:
    return stretch(values[:, :, None], SIZE)[:, :, 0]


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_method_finds_the_spot_that_the_model_looks_at(method: Method) -> None:
    for module in method.modules:
        pytest.importorskip(module)
    probe = spot_probe()
    found = on_image(method.values(probe, Budget(), 0))
    assert np.isfinite(found).all()
    inside = np.zeros(SIZE, bool)
    inside[SPOT] = True
    assert inside.flat[int(found.argmax())]
    assert found[SPOT].mean() > 4 * abs(found[4:16, 40:55].mean())
    assert probe.calls <= method.calls


@pytest.mark.parametrize("method", ON_THE_DEVICE, ids=lambda method: method.name)
def test_equal_seeds_give_equal_maps_and_the_other_class_the_negative(method: Method) -> None:
    first, again, other = (method.values(spot_probe(sign), Budget(), 7) for sign in (1.0, 1.0, -1.0))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_allclose(first, -other, atol=1e-5)
    assert first.dtype == np.float32


def test_rise_draws_by_its_seed() -> None:
    rise = METHODS["rise"].values
    assert (rise(spot_probe(), Budget(), 0) != rise(spot_probe(), Budget(), 1)).any()


def test_scorecam_leaves_the_backbone_alone() -> None:
    probe = spot_probe()
    METHODS["scorecam"].values(probe, Budget(), 0)
    assert (probe.calls, probe.head_calls) == (0, 3)  # no map at all, and each of two channels


def test_occlusion_is_the_mean_fall_of_the_windows_over_a_cell() -> None:
    """A linear model: a cell's value is a window's share of the spot, in logits."""
    probe = spot_probe()
    found = METHODS["occlusion"].values(probe, Budget(stable=False), 0)
    assert probe.calls == 121
    hidden = score(np.broadcast_to(probe.hidden, (1, *SIZE, 3)))
    windows = [
        probe.logit - score(_without(probe, slice(4 * y, 4 * y + 8), slice(5 * x, 5 * x + 10)))
        for y in (7, 8) for x in (2, 3)
    ]  # fmt: skip
    assert found[8, 3] == pytest.approx(np.mean(windows), rel=1e-5)
    assert 0 < found.max() <= probe.logit - hidden + 1e-5


def _without(probe: Probe, rows: slice, columns: slice) -> np.ndarray:
    image = probe.image.copy()
    image[rows, columns] = probe.hidden
    return image[None]


def test_the_score_is_the_logit_never_the_probability() -> None:
    """A saturated answer, whose probability is 1 to the last bit, is explained like any other."""
    plain, far = spot_probe(), spot_probe()
    far.score = lambda model_input: score(model_input) + 60.0
    far.outputs = {**far.outputs, "logit": plain.outputs["logit"] + 60.0}
    for name in ("occlusion", "rise"):
        first, second = (METHODS[name].values(probe, Budget(stable=False), 0) for probe in (plain, far))
        np.testing.assert_allclose(first, second, atol=2e-3)
        assert second.max() > 0.1


@pytest.mark.parametrize("method", [m for m in METHODS.values() if m.name != "gradcam"], ids=lambda m: m.name)
def test_a_budget_that_is_too_small_gives_a_partial_map_and_says_so(method: Method) -> None:
    for module in method.modules:
        pytest.importorskip(module)
    ticks = iter(range(10_000))
    budget = Budget(20.0, clock=lambda: float(next(ticks)))
    found = method.values(spot_probe(), budget, 0)
    assert np.isfinite(found).all()
    if method.name != "scorecam":  # two channels take three ticks
        assert budget.stopped == "time"
        assert "Partial result: 20 s were enough for" in budget.says()


def test_shap_values_add_up() -> None:
    pytest.importorskip("shap")
    probe = spot_probe()
    found = METHODS["shap"].values(probe, Budget(stable=False), 0)
    assert found.sum() == pytest.approx(probe.logit - score(np.broadcast_to(probe.hidden, (1, *SIZE, 3))), abs=1e-4)


def test_lime_is_what_lime_itself_says() -> None:
    lime_image = pytest.importorskip("lime.lime_image")
    from sonoedge.edge_runtime.explain.methods import lime

    probe = spot_probe()
    ours = lime.values(probe, Budget(stable=False), 3)
    segments = lime.superpixels(probe.image)
    theirs = lime_image.LimeImageExplainer(random_state=3).explain_instance(
        probe.image.astype(float), lambda images: np.array([[score(one[None])] for one in images]), labels=(0,),
        top_labels=None, hide_color=probe.hidden.astype(float), num_samples=lime.SAMPLES + 1,
        segmentation_fn=lambda _: segments, random_seed=0,
    )  # fmt: skip
    weights = dict(theirs.local_exp[0])
    wanted = np.array([weights[region] for region in range(segments.max() + 1)])[segments]
    np.testing.assert_allclose(ours, wanted, atol=1e-5)


def test_names_are_looked_up() -> None:
    assert [method.name for method in methods_of(["rise", "gradcam", "rise"])] == ["rise", "gradcam"]
    with pytest.raises(UsageError, match="Did you mean 'scorecam'"):
        method_of("score-cam")
    with pytest.raises(UsageError, match=r"Unknown method 'xyz'\. Choose from: gradcam"):
        method_of("xyz")


def test_a_missing_extra_is_a_command_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r'shap is not installed.*pip install "\.\[xai\]"'):
        METHODS["shap"].require()
    METHODS["rise"].require()


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_method_names_its_source(method: Method) -> None:
    import sys

    text = sys.modules[method.values.__module__].__doc__ or ""
    assert re.search(r"[A-Z]\w+ (et al\.|and [A-Z]\w+), [^:]*\b20\d\d\b", text), "authors and year"
    assert "Cost:" in text
    assert (method.extra in text) if method.extra else "xai" not in text
