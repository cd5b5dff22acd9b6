"""The out-of-domain gate as part of every exported bundle; `tests.edge_runtime.test_domain` has what devices do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sonoedge.edge_runtime.bundle.contract import GATE_FILE, Artifact, Branch, Bundle, InputSpec
from sonoedge.edge_runtime.bundle.manifest import load_bundle
from sonoedge.edge_runtime.errors import DataError
from sonoedge.edge_runtime.imaging.image import find_images
from sonoedge.edge_runtime.model.gate import load_gate
from sonoedge.export.bundle import pipeline
from sonoedge.export.bundle.gate import SIGNATURE
from sonoedge.export.convert.splitting import split_model
from sonoedge.export.gate.features import file_features, float_features, looked_at
from sonoedge.export.gate.fit import distances, fit_gate, limits_from, principal_directions, quickest_artifact
from sonoedge.export.gate.images import COPIES, copies_of, images_of_folder
from sonoedge.train.evaluation.run_folder import open_run
from sonoedge.train.features.cache import default_cache
from sonoedge.train.records.settings import TrainSettings
from tests.helpers.commands import Result
from tests.helpers.measured_runs import run_card
from tests.helpers.models import small_model

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, tiny_run: Path) -> Path:
    """`tiny_run` as tflite-fp32 and tflite-int8, by default options but the search.

    What the guard has seen of the int8 file is enough for its limits: the file is not run over the images again.
    """
    from tests.helpers.commands import call

    out = tmp_path_factory.mktemp("bundles") / "gated"
    arguments = ["--model", tiny_run, "--format", "tflite-fp32,tflite-int8", "--precision", "w8a8"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "sonoedge.export.gate.fit.file_features", lambda *_, **__: pytest.fail("an image was run again")
        )
        assert call("export", *arguments, "--num-calibration-samples", 8, "--out", out, "--quiet") == 0
    return out


def test_every_artifact_of_an_exported_bundle_has_a_gate(exported: Path, tiny_run: Path) -> None:
    bundle = load_bundle(exported)
    card = json.loads((tiny_run / "run.json").read_text())
    facts = bundle.provenance["gate"]
    assert facts["images"] == card["dataset"]["images"]["train"]
    assert facts["validation_images"] == card["dataset"]["images"]["val"]
    for artifact in bundle.artifacts:
        gate = load_gate(bundle, artifact.name)
        assert gate is not None
        assert 0 < gate.warning <= gate.threshold
        assert facts["limits"][artifact.name]["threshold"] == pytest.approx(gate.threshold, rel=1e-3)
    text = (exported / "MODEL_CARD.md").read_text()
    assert "## Out-of-domain gate" in text
    assert f"| tflite-int8 | {facts['limits']['tflite-int8']['warning']:.3f} |" in text
    assert "Test images: " in text


def test_the_int8_limits_follow_the_distances_of_the_int8_file(exported: Path, tiny_run: Path) -> None:
    """Quantization moves every distance; the limit moves with it, so that the same images are inside."""
    from sonoedge.edge_runtime.model.classifier import Classifier
    from sonoedge.train.evaluation.run_folder import load_subsets

    bundle = load_bundle(exported)
    paths = [sample.path for sample in load_subsets(open_run(tiny_run), None)["val"].samples]
    found, plain = {}, {}
    for name in ("tflite-fp32", "tflite-int8"):
        gate = load_gate(bundle, name)
        assert gate is not None
        plain[name] = distances(gate, file_features(Classifier(bundle, name), paths))
        found[name] = plain[name] / gate.threshold
    assert abs(np.median(plain["tflite-int8"] / plain["tflite-fp32"]) - 1) > 0.02, "the test would not see a thing"
    assert np.median(found["tflite-int8"] / found["tflite-fp32"]) == pytest.approx(1.0, rel=0.01)


def test_the_last_of_several_maps_is_not_looked_at(tiny_backbones: tuple[str, str]) -> None:
    from sonoedge.train.models.backbones import map_channels
    from sonoedge.train.models.fusion import build_model

    plain = split_model(build_model(tiny_backbones, weights="none", input_size=(32, 32)).full)
    assert looked_at(plain).all()
    staged = build_model(("efficientnetb0",), weights="none", input_size=(64, 64), maps="stages")
    channels = map_channels(staged.backbones["efficientnetb0"])
    assert len(channels) > 1
    used = looked_at(split_model(staged.full))
    assert used.tolist() == [False] * channels[0] + [True] * sum(channels[1:])


def test_channels_that_are_not_looked_at_count_nothing() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, 30)).astype(np.float32)
    used = np.arange(30) >= 10
    bundle = Bundle(Path("x"), "x", ("n", "p"), "p", InputSpec(8, 8), (Branch("a", 1, 1, 30),), (), {}, "")
    gate = fit_gate(features, bundle, used, directions=5)
    assert distances(gate, features).mean() == pytest.approx(1.0, abs=0.1)
    changed = features.copy()
    changed[:, :10] += 100
    np.testing.assert_array_equal(distances(gate, features), distances(gate, changed))


def test_features_come_from_the_cache_of_the_training(
    tiny_run: Path, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backbones have run over the images when the run was trained: 200 s of an export's six minutes."""
    from sonoedge.train.evaluation.run_folder import load_subsets
    from sonoedge.train.models.fusion import load_model

    def computed(*args: object) -> None:
        raise AssertionError("a backbone ran again")

    monkeypatch.setattr("sonoedge.train.features.cache._run", computed)
    run = open_run(tiny_run)
    samples = load_subsets(run, None)["train"].samples
    found = float_features(split_model(load_model(tiny_run)), samples, default_cache())
    from sonoedge.edge_runtime.model.classifier import Classifier

    expected = file_features(Classifier(load_bundle(exported), "tflite-fp32"), [s.path for s in samples])
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_without_a_gate(run_bundle: Path) -> None:
    """`run_bundle` is exported with --no-gate."""
    assert not (run_bundle / GATE_FILE).exists()
    assert "gate" not in load_bundle(run_bundle).provenance
    text = (run_bundle / "MODEL_CARD.md").read_text()
    assert "None: nothing tells the device which pictures are unlike those of training." in text


@pytest.mark.slow
def test_the_images_of_the_run_are_gone(sonoedge: Run, tiny_run: Path, tmp_path: Path) -> None:
    arguments = ["--model", tiny_run, "--format", "tflite-fp32", "--data", tmp_path / "nowhere", "--quiet"]
    refused = sonoedge("export", *arguments, "--out", tmp_path / "bundle")
    assert refused.code == 3
    assert "--data" in refused.err and "--no-gate" in refused.err
    assert sonoedge("export", *arguments, "--out", tmp_path / "bundle", "--no-gate").code == 0
    assert not (tmp_path / "bundle" / GATE_FILE).exists()


@pytest.mark.slow
def test_a_bare_model(sonoedge: Run, small_keras: Path, phantoms: Path, tmp_path: Path) -> None:
    """Its training images are not known: the calibration images take their place, if there are enough."""
    arguments = ["--model", small_keras, "--labels", "a,b", "--format", "tflite-fp32", "--quiet"]
    bare = sonoedge("export", *arguments, "--out", tmp_path / "bare")
    assert bare.code == 0
    assert "no out-of-domain gate" in bare.out
    assert not (tmp_path / "bare" / GATE_FILE).exists()
    few = tmp_path / "few"
    few.mkdir()
    for path in find_images(phantoms)[:7]:
        shutil.copy(path, few)
    assert (
        "no out-of-domain gate"
        in sonoedge("export", *arguments, "--calibration-data", few, "--out", tmp_path / "few-bundle").out
    )
    shutil.copy(find_images(phantoms)[7], few)
    enough = sonoedge("export", *arguments, "--calibration-data", few, "--out", tmp_path / "enough")
    assert "fitted to the calibration images" in enough.out
    facts = load_bundle(tmp_path / "enough").provenance["gate"]
    assert (facts["source"], facts["images"], facts["validation_images"]) == ("calibration images", 6, 2)


def test_too_few_images() -> None:
    with pytest.raises(DataError, match=r"at least 8 .* Received: 7 and 7.*--no-gate"):
        images_of_folder([Path(f"{i}.png") for i in range(7)], [str(i) for i in range(7)])


@pytest.mark.slow
def test_an_artifact_without_limits_is_not_published(
    sonoedge: Run, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "write_gate", lambda bundle, fitted: None)
    result = sonoedge(
        "export", "--model", tiny_run, "--format", "tflite-fp32", "--quiet", "--out", tmp_path / "bundle"
    )
    assert result.code == 5
    assert f"{GATE_FILE} has no limits for tflite-fp32" in result.err
    assert not (tmp_path / "bundle").exists()


@pytest.mark.slow
@pytest.mark.parametrize("grids", [(2, 2), (2, 1), (2,)], ids=["one grid", "two grids", "one branch"])
@pytest.mark.parametrize("join", ["gap", "flatten"])
def test_keras_and_the_file_give_the_same_features(
    grids: tuple[int, ...], join: str, phantoms: Path, tmp_path: Path, sonoedge: Run
) -> None:
    """Maps of different sizes, one branch, maps that are flattened rather than pooled."""
    import keras

    from sonoedge.edge_runtime.model.classifier import Classifier
    from sonoedge.train.models.fusion import load_model

    if join == "flatten" and len(set(grids)) > 1:
        pytest.skip("a flatten head needs one grid")
    keras.utils.set_random_seed(3)
    path = tmp_path / "model.keras"
    small_model(grids=grids, join=join).save(path)
    arguments = ["--model", path, "--labels", "a,b", "--format", "tflite-fp32", "--quiet"]
    arguments += ["--calibration-data", phantoms / "benign", "--out", tmp_path / "bundle"]
    assert sonoedge("export", *arguments).code == 0
    images = images_of_folder(paths := find_images(phantoms)[:9], [str(number) for number in range(9)])
    samples = sorted((*images.train, *images.val), key=lambda sample: sample.path)
    found = float_features(split_model(load_model(path)), samples, tmp_path / "cache")
    classifier = Classifier(load_bundle(tmp_path / "bundle"), "tflite-fp32")
    np.testing.assert_allclose(found, file_features(classifier, sorted(paths)), atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "copies"),
    [
        (TrainSettings("", augment=0), 0),
        (TrainSettings("", augment=2), 2),
        (TrainSettings("", augment=9), COPIES),
        (TrainSettings("", augment=2, fine_tune="vgg19/.*"), 0),
        (None, 0),
    ],
    ids=["no copies", "two", "many", "tuned backbones", "a student"],
)
def test_copies_are_those_whose_features_are_kept(settings: TrainSettings | None, copies: int) -> None:
    from sonoedge.train.evaluation.run_folder import Run as Folder

    card: Any = run_card(settings) if settings else object()  # the card of a student is of another type
    assert copies_of(Folder(Path("x"), card, None)) == copies  # type: ignore[arg-type]


def test_principal_directions_are_those_of_all_singular_vectors() -> None:
    rng = np.random.default_rng(0)
    for shape in ((40, 15), (15, 40)):
        z = rng.normal(size=shape) * np.geomspace(3, 0.1, shape[1])
        _, singular, expected = np.linalg.svd(z, full_matrices=False)
        values, found = principal_directions(z, 5)
        np.testing.assert_allclose(values, singular[:5] ** 2 / (shape[0] - 1), rtol=1e-9)
        np.testing.assert_allclose(np.abs(np.sum(found * expected[:5], axis=1)), 1.0, atol=1e-9)


def test_limits_do_not_refuse_what_the_validation_images_promise() -> None:
    """Views that lie nearer than the images themselves must not pull the limit of refusal among them."""
    plain = np.exp(np.random.default_rng(0).normal(0.3, 0.3, 95))
    limits = limits_from(plain, plain / 3)
    assert limits.threshold > plain.max() * 0.95
    assert limits.warning < limits.threshold
    assert limits_from(plain, np.array([50.0] * 10)).threshold == 50.0


def test_few_validation_images_widen_the_limits() -> None:
    """Eight images say less about the spread than a hundred: the next image must not be refused by chance."""
    rng = np.random.default_rng(0)
    refused = []
    for _ in range(300):
        plain, more = np.exp(rng.normal(0, 0.3, 8)), np.exp(rng.normal(0, 0.3, 200))
        refused.append((more > limits_from(plain, plain).threshold).mean())
    assert np.mean(refused) < 0.005
    single = limits_from(np.array([1.0]), np.array([2.0]))
    assert np.isfinite([single.warning, single.threshold]).all()


def test_the_quickest_artifact_is_of_a_kind() -> None:
    def bundle(*kinds: tuple[str, str, str]) -> Bundle:
        artifacts = tuple(Artifact(n, r, p, {}, "b", "h", 1, 0.5, {}) for n, r, p in kinds)
        return Bundle(Path("x"), "x", ("n", "p"), "p", InputSpec(8, 8), (Branch("a", 1, 1, 1),), artifacts, {}, "")

    full = bundle(("a", "tflite", "fp32"), ("b", "tflite", "mixed"), ("c", "openvino", "int8"))
    assert quickest_artifact(full).name == "c"
    assert quickest_artifact(bundle(("a", "tflite", "w8a16"), ("b", "openvino", "fp32"))).name == "b"


def test_the_command_drops_a_signature_and_renews_the_card(
    sonoedge: Run, run_bundle: Path, tiny_run: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(run_bundle, folder)
    (folder / SIGNATURE).write_text("of the bundle without a gate")
    result = sonoedge("gate", "--bundle", folder, "--model", tiny_run, "--quiet")
    assert result.code == 0, result.err
    assert "refuses above" in result.out
    assert not (folder / SIGNATURE).exists()
    assert "Fitted to " in (folder / "MODEL_CARD.md").read_text()
    assert sonoedge("verify", folder).code == 0


def test_a_gate_of_another_model(sonoedge: Run, float_bundle: Path, tiny_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(float_bundle, folder)
    result = sonoedge("gate", "--bundle", folder, "--model", tiny_run, "--quiet")
    assert result.code == 4
    assert "was not made from the model" in result.err
    assert not (folder / GATE_FILE).exists()
