"""The Structured Report: what another DICOM program reads in it, and whom it names."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sonoedge.edge_runtime.bundle.manifest import load_bundle
from sonoedge.edge_runtime.dicom.secondary_capture import secondary_capture
from sonoedge.edge_runtime.dicom.structured_report import Finding, structured_report
from sonoedge.edge_runtime.errors import ImageError

pydicom = pytest.importorskip("pydicom")
hd = pytest.importorskip("highdicom")

SECRET = "Doe^Jane"


def cine(path: Path, frames: int = 4) -> Any:
    """A loop with a patient; the frames differ."""
    rng = np.random.default_rng(5)
    pictures = [rng.integers(0, 256, (72, 96, 3), np.uint8) // (i + 1) for i in range(frames)]
    data = pydicom.dcmread(io.BytesIO(secondary_capture(pictures, None, text="", deidentify=False)))
    data.PatientName, data.PatientID, data.StudyDate, data.FrameTime = SECRET, "ID-QX4711", "20260102", "20.0"
    data.save_as(path)
    return data


def items(node: Any) -> dict[str, Any]:
    """Concept name -> value of every item of the content tree."""
    found = {}
    for item in node.get("ContentSequence", []):
        name = item.ConceptNameCodeSequence[0].CodeMeaning if "ConceptNameCodeSequence" in item else item.ValueType
        if item.ValueType == "NUM":
            found[name] = float(item.MeasuredValueSequence[0].NumericValue)
        elif item.ValueType == "CODE":
            found[name] = item.ConceptCodeSequence[0].CodeMeaning
        elif item.ValueType == "TEXT":
            found.setdefault(name, []).append(item.TextValue)
        elif item.ValueType == "IMAGE":
            found["image"] = item.ReferencedSOPSequence[0]
        found |= {k: v for k, v in items(item).items() if k not in found}
    return found


def test_a_report_on_a_loop(float_bundle: Path, tmp_path: Path, sonoedge: Any) -> None:
    source, out = cine(tmp_path / "cine.dcm"), tmp_path / "report.dcm"
    result = sonoedge(
        "stream", "--bundle", float_bundle, "--source", tmp_path / "cine.dcm", "--json", "--report", out
    )
    assert result.code == 0, result.err
    assert SECRET not in result.out + result.err
    lines = [json.loads(line) for line in result.out.splitlines()]
    highest = max(lines, key=lambda line: line["smoothed"])
    report = hd.sr.srread(out)
    assert isinstance(report, hd.sr.ComprehensiveSR)
    assert (report.PatientName, report.StudyInstanceUID) == (SECRET, source.StudyInstanceUID)
    flags = (report.CompletionFlag, report.VerificationFlag, report.PreliminaryFlag)
    assert flags == ("PARTIAL", "UNVERIFIED", "PRELIMINARY")
    found = items(report)
    bundle = load_bundle(float_bundle)
    assert found[f"Model probability of {bundle.positive_label}"] == pytest.approx(highest["smoothed"], abs=1e-6)
    assert found["Decision threshold of the model"] == pytest.approx(highest["threshold"])
    positive = highest["smoothed"] >= highest["threshold"]
    assert found["Model label"] == (bundle.positive_label if positive else bundle.negative_label)
    assert found["Assessment"] == highest["verdict"].replace("_", " ")
    assert found["image"].ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert found["image"].ReferencedFrameNumber == highest["frame"]
    assert found["Algorithm Name"] == [f"SonoEdge {bundle.name}"]
    assert len(found["Algorithm Version"][0]) == 64
    assert any("Not a medical device" in text for text in found["Algorithm Parameters"])


def test_a_deidentified_report_refers_to_the_deidentified_frames(
    float_bundle: Path, tmp_path: Path, sonoedge: Any
) -> None:
    source, out, capture = cine(tmp_path / "cine.dcm"), tmp_path / "report.dcm", tmp_path / "capture.dcm"
    options = ["--report", out, "--annotated", capture, "--deidentify", "--quiet"]
    assert sonoedge("stream", "--bundle", float_bundle, "--source", tmp_path / "cine.dcm", *options).code == 0
    content, frames = out.read_bytes(), pydicom.dcmread(capture)
    for identifier in ("Jane", "QX4711", "20260102", source.StudyInstanceUID, source.SOPInstanceUID):
        assert identifier.encode() not in content
    report = pydicom.dcmread(out)
    assert report.StudyInstanceUID == frames.StudyInstanceUID
    assert items(report)["image"].ReferencedSOPInstanceUID == frames.SOPInstanceUID
    assert not report.PatientName and not report.PatientID


def test_a_still_has_no_frame_number(float_bundle: Path, tmp_path: Path) -> None:
    source = cine(tmp_path / "still.dcm", frames=1)
    finding = Finding("tflite-fp32", 0.25, 0.5, "not_suspicious", None, "text")
    report = pydicom.dcmread(io.BytesIO(structured_report(source, load_bundle(float_bundle), finding)))
    assert "ReferencedFrameNumber" not in items(report)["image"]


def test_an_object_without_identifiers(float_bundle: Path, tmp_path: Path) -> None:
    source = cine(tmp_path / "cine.dcm")
    del source.SeriesInstanceUID
    finding = Finding("tflite-fp32", 0.25, 0.5, "not_suspicious", None, "text")
    with pytest.raises(ImageError, match="no SeriesInstanceUID"):
        structured_report(source, load_bundle(float_bundle), finding)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--deidentify"], "add --annotated FILE.dcm"),
        (["--deidentify", "--annotated", "out.gif"], "add --annotated FILE.dcm"),
    ],
)
def test_nothing_to_refer_to(
    options: list[str], words: str, float_bundle: Path, tmp_path: Path, sonoedge: Any
) -> None:
    cine(tmp_path / "cine.dcm")
    command = ["stream", "--bundle", float_bundle, "--report", tmp_path / "report.dcm", "--source"]
    result = sonoedge(*command, tmp_path / "cine.dcm", *options)
    assert (result.code, words in result.err) == (2, True)
    assert not (tmp_path / "report.dcm").exists()


def test_pictures_that_are_no_dicom(float_bundle: Path, phantoms: Path, sonoedge: Any) -> None:
    result = sonoedge("stream", "--bundle", float_bundle, "--source", phantoms / "benign", "--report", "x.dcm")
    assert (result.code, "--source must be one" in result.err) == (2, True)


def test_without_highdicom_the_extra_is_named(
    float_bundle: Path, tmp_path: Path, sonoedge: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cine(tmp_path / "cine.dcm")
    monkeypatch.setattr("sonoedge.edge_runtime.commands.stream.find_spec", lambda _: None)
    command = [
        "stream",
        "--bundle",
        float_bundle,
        "--source",
        tmp_path / "cine.dcm",
        "--report",
        tmp_path / "r.dcm",
    ]
    result = sonoedge(*command)
    assert (result.code, ".[sr]" in result.err) == (7, True)
