"""The threshold of a site: chosen from local images, kept beside the bundle, used by whatever answers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sonoedge
from sonoedge.edge_runtime.bundle.signature import new_key
from sonoedge.edge_runtime.bundle.site import site_file
from sonoedge.edge_runtime.errors import BundleError, DataError, TrustError, UsageError
from sonoedge.edge_runtime.files import sha256_file
from sonoedge.export.bundle.site import calibrate_site, patients_for, threshold_for
from tests.helpers.commands import Result
from tests.helpers.data_folders import write_csv

Run = Callable[..., Result]


@pytest.fixture
def bundle(float_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(float_bundle, tmp_path / "bundle"))


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of 16 patients a class, two views each, with a table of patients."""
    from sonoedge.train.simulation.phantoms import generate_phantoms

    folder = generate_phantoms(tmp_path_factory.mktemp("clinic") / "clinic", cases_per_class=16, seed=5)
    images = sorted(path for label in ("benign", "malignant") for path in (folder / label).glob("*.png"))
    rows = [(str(path.relative_to(folder)), path.parent.name, path.stem.rpartition("_")[0]) for path in images]
    write_csv(folder / "images.csv", ("image", "label", "patient"), rows)
    return folder


@pytest.mark.parametrize(("patients", "aim"), [(13, 0.90), (20, 0.80), (40, 0.80), (60, 0.95)])
def test_a_new_patient_is_found_as_often_as_was_asked(patients: int, aim: float) -> None:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(2000):
        logits = rng.normal(1, 1, patients)
        cut = threshold_for(logits, np.ones(patients, np.int64), [str(i) for i in range(patients)], aim)
        found.append(float(rng.normal(1, 1) >= cut))
    # Neither missed nor wasted: an order statistic more or less would be 1 / (patients + 1) away.
    assert abs(np.mean(found) - aim) < 4 * (aim * (1 - aim) / 2000) ** 0.5


def test_patients_weigh_the_same_however_many_images_they_have() -> None:
    logits = np.array([0.0] * 50 + [float(i) for i in range(1, 20)])
    groups = ["one"] * 50 + [str(i) for i in range(1, 20)]
    cut = threshold_for(logits, np.ones(69, np.int64), groups, 0.9)
    # Twenty patients: the threshold lies a tenth of the way from the second lowest to the third.
    assert cut == pytest.approx(1.1)


def test_the_cut_lies_between_images() -> None:
    logits = np.array([-3.0, -1.0, 0.0, 2.0, 4.0])
    y = np.array([0, 0, 1, 1, 1])
    assert threshold_for(logits, y, list("abcde"), 0.9) == pytest.approx(-0.5)


@pytest.mark.parametrize(("bound", "patients"), [(0.75, 13), (0.8, 17), (0.9, 36)])
def test_how_many_patients_a_bound_needs(bound: float, patients: int) -> None:
    from scipy.stats import beta

    assert patients_for(bound) == patients
    assert beta.ppf(0.025, patients, 1) >= bound > beta.ppf(0.025, patients - 1, 1)


def test_the_overlay_lies_beside_the_bundle_and_decides(bundle: Path, clinic: Path) -> None:
    image = sorted((clinic / "malignant").glob("*.png"))[0]
    before = {path: sha256_file(path) for path in bundle.rglob("*") if path.is_file()}
    own = sonoedge.load(bundle)(image)
    done = calibrate_site(bundle, data=clinic, site="north clinic", lower_bound=0.8)
    assert {path: sha256_file(path) for path in bundle.rglob("*") if path.is_file()} == before
    assert done.path == bundle.with_name("bundle.site.json")
    assert (done.site.patients, done.site.positive_patients, done.has_patients) == (32, 16, True)
    assert done.missing == 1
    assert 0.79 < done.best_bound < 0.8
    assert {point.artifact for point in done.site.points} == {"tflite-fp32", "openvino-fp32"}
    result = sonoedge.load(bundle)(image)
    assert result.logit == own.logit
    assert result.threshold == done.site.points[0].threshold != own.threshold
    assert (result.label == "malignant") == (result.probability >= result.threshold)
    assert result.to_json()["site"] == "north clinic"
    assert "site" not in own.to_json()
    answers = [sonoedge.load(bundle)(p) for p in sorted((clinic / "malignant").glob("*.png"))]
    found = np.mean([answer.probability >= answer.threshold for answer in answers])
    assert found == pytest.approx(done.site.points[0].sensitivity[0], abs=1e-4)
    assert found > 0.85
    site_file(bundle).unlink()
    assert sonoedge.load(bundle)(image).threshold == own.threshold


def test_the_commands_say_whose_threshold_it_is(sonoedge: Run, bundle: Path, clinic: Path) -> None:
    image = sorted((clinic / "benign").glob("*.png"))[0]
    done = sonoedge("calibrate-site", "--bundle", bundle, "--data", clinic, "--lower-bound", 0.9, "--quiet")
    assert done.code == 0, done.err
    assert "16 with the positive class" in done.out
    assert "20 more positive patients are needed" in done.out
    assert "of clinic)" in sonoedge("predict", "--bundle", bundle, "--ungated", image).out
    checked = sonoedge("verify", bundle)
    assert checked.code == 0, checked.err
    assert "site overlay: clinic" in checked.out
    assert json.loads(sonoedge("verify", bundle, "--json").out)["site"]["positive_patients"] == 16


def test_an_overlay_of_another_bundle_is_refused(sonoedge: Run, bundle: Path, clinic: Path, tmp_path: Path) -> None:
    calibrate_site(bundle, data=clinic)
    image = sorted((clinic / "benign").glob("*.png"))[0]
    body = json.loads(site_file(bundle).read_text())
    for change, words in (
        ({"bundle_digest": "0" * 64}, "is for another bundle"),
        ({"schema_version": 2}, "schema_version 2"),
        ({"points": []}, "must name artifacts of the bundle"),
        ({"points": [{**body["points"][0], "threshold": 1.5}]}, "between 0 and 1"),
        ({"points": [{**body["points"][0], "artifact": "onnx-fp32"}]}, "must name artifacts"),
        ({"extra": 1}, "extra"),
    ):
        site_file(bundle).write_text(json.dumps({**body, **change}))
        for command in (["predict", "--bundle", bundle, image], ["verify", bundle]):
            found = sonoedge(*command)
            assert found.code == BundleError.exit_code
            assert words in found.err
    site_file(bundle).write_text("{")
    assert sonoedge("predict", "--bundle", bundle, image).code == BundleError.exit_code


def test_a_signed_overlay(bundle: Path, clinic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sonoedge.edge_runtime.bundle.signature as signatures

    public = new_key(tmp_path / "clinic.key", tmp_path / "clinic.pub")
    signatures.sign_bundle(bundle, tmp_path / "clinic.key")
    (tmp_path / "policy.json").write_text(json.dumps({"policy_version": 1, "allowed_signers": {"clinic": public}}))
    calibrate_site(bundle, data=clinic, key=tmp_path / "clinic.key")
    monkeypatch.setenv("SONOEDGE_POLICY", str(tmp_path / "policy.json"))
    assert sonoedge.load(bundle).bundle.site is not None
    monkeypatch.delenv("SONOEDGE_POLICY")
    calibrate_site(bundle, data=clinic)  # without a key: the old signature goes
    monkeypatch.setenv("SONOEDGE_POLICY", str(tmp_path / "policy.json"))
    with pytest.raises(TrustError, match=r"bundle\.site\.json is not signed"):
        sonoedge.load(bundle)
    monkeypatch.delenv("SONOEDGE_POLICY")
    assert sonoedge.load(bundle).bundle.site is not None
    calibrate_site(bundle, data=clinic, key=tmp_path / "clinic.key")
    site_file(bundle).write_text(site_file(bundle).read_text().replace("clinic", "Clinic"))
    with pytest.raises(BundleError, match="has changed since it was signed"):
        sonoedge.load(bundle)


def test_too_few_patients(bundle: Path, phantoms: Path) -> None:
    # 12 cases a class, by the case of their file names.
    with pytest.raises(DataError, match=r"at least 13 patients with malignant. Received: 12. .* 0\.90 .* 24 more"):
        calibrate_site(bundle, data=phantoms, lower_bound=0.9)
    assert not site_file(bundle).exists()


@pytest.mark.parametrize("options", [{"sensitivity": 1.0}, {"sensitivity": float("nan")}, {"lower_bound": 0.2}])
def test_wrong_aims(bundle: Path, clinic: Path, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"must be from 0.5 to 0.99"):
        calibrate_site(bundle, data=clinic, **options)


def test_what_measures_a_bundle_takes_its_own_threshold(bundle: Path, clinic: Path) -> None:
    from sonoedge.edge_runtime.bundle.trust import load_trusted
    from sonoedge.edge_runtime.model.classifier import Classifier

    own = load_trusted(bundle).artifacts[0].threshold
    calibrate_site(bundle, data=clinic)
    assert load_trusted(bundle).artifacts[0].threshold == own
    with Classifier(bundle) as model:
        assert model.artifact.threshold == own
