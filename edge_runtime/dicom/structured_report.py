"""A DICOM Comprehensive Structured Report of a result (template TID 1500), by highdicom, on request only.

A report holds the model's probability and threshold, the label, the verdict in words, the frame and object of the
result, and the identity of the model. Concepts without a code in the standard use our own scheme, 99SONOEDGE: the
model's probability is not DICOM's "probability of cancer" (111047, DCM). Every report is preliminary, partial and
unverified: only a person can change this.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import Any

from sonoedge.edge_runtime.bundle.checksums import bundle_digest
from sonoedge.edge_runtime.bundle.contract import Bundle
from sonoedge.edge_runtime.errors import ImageError, MissingExtraError
from sonoedge.edge_runtime.words import INTENDED_USE

SCHEME = "99SONOEDGE"
_TEXT_LENGTH = 64  # of a code's meaning and of a description (VR LO)
_COPIED = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
    "StudyTime", "ReferringPhysicianName",
)  # fmt: skip
_IDENTIFIERS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID")


@dataclass(frozen=True)
class Finding:
    """The result that a report states.

    Attributes:
        artifact: name of the artifact that computed the result.
        probability: of the positive class, 0–1.
        threshold: an image is positive if its probability is at least this.
        assessment: one of `edge_runtime.model.assess.VERDICTS`.
        frame: number in the object, from 1; None for a still.
        text: the result in words.
    """

    artifact: str
    probability: float
    threshold: float
    assessment: str
    frame: int | None
    text: str


def structured_report(evidence: Any, bundle: Bundle, finding: Finding) -> bytes:
    """The report as the bytes of a DICOM file.

    Args:
        evidence: the pydicom data set of the image. Patient and study are copied from it, so that viewers show the
            report in its study; to leave them out, give the deidentified capture.
        bundle: the model.
        finding: the result.

    Raises:
        ImageError: ``evidence`` lacks an identifier that a reference needs.
        MissingExtraError: highdicom is not installed.
    """
    try:
        from highdicom import sr
        from pydicom.sr.codedict import codes
        from pydicom.uid import UID, generate_uid
    except ImportError as error:
        raise MissingExtraError("highdicom", "sr") from error
    source = _source(evidence)
    digest = bundle_digest(bundle.path)
    label = bundle.positive_label if finding.probability >= finding.threshold else bundle.negative_label
    model = sr.AlgorithmIdentification(
        name=f"SonoEdge {bundle.name}"[:_TEXT_LENGTH],
        version=digest,
        parameters=[f"artifact {finding.artifact}", finding.text, INTENDED_USE],
    )
    frames = None if finding.frame is None else [finding.frame]
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=generate_uid(prefix=None), identifier="SonoEdge"),
        algorithm_id=model,
        finding_sites=[sr.FindingSite(codes.SCT.Breast)],
        source_images=[sr.SourceImageForMeasurementGroup(source.SOPClassUID, source.SOPInstanceUID, frames)],
        measurements=[
            sr.Measurement(
                _own(sr, "probability", f"Model probability of {bundle.positive_label}"),
                round(finding.probability, 6),
                codes.UCUM.NoUnits,
            ),
            sr.Measurement(
                _own(sr, "threshold", "Decision threshold of the model"), finding.threshold, codes.UCUM.NoUnits
            ),
        ],
        qualitative_evaluations=[
            sr.QualitativeEvaluation(_own(sr, "label", "Model label"), _own(sr, label, label)),
            sr.QualitativeEvaluation(
                _own(sr, "assessment", "Assessment"),
                _own(sr, finding.assessment, finding.assessment.replace("_", " ")),
            ),
        ],
    )
    # The identifier comes from the bundle's digest, so that one model is the same observer everywhere.
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=UID(f"2.25.{int(digest[:32], 16)}"), name="SonoEdge", model_name=bundle.name[:_TEXT_LENGTH]
    )
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(
            observer_device_context=sr.ObserverContext(codes.DCM.Device, device)
        ),
        procedure_reported=codes.SCT.UltrasonographyOfBreast,
        imaging_measurements=[group],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns about every odd value that is copied
        report = sr.ComprehensiveSR(
            evidence=[source],
            content=content[0],
            series_instance_uid=generate_uid(prefix=None),
            series_number=9998,
            sop_instance_uid=generate_uid(prefix=None),
            instance_number=1,
            manufacturer="SonoEdge",
            manufacturer_model_name=bundle.name[:_TEXT_LENGTH],
            software_versions=digest,
            series_description="SonoEdge result - research use only",
        )
        buffer = io.BytesIO()
        report.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _own(sr: Any, value: str, meaning: str) -> Any:
    return sr.CodedConcept(value[:16], SCHEME, meaning[:_TEXT_LENGTH])


def _source(evidence: Any) -> Any:
    """The identifiers, patient and study of the object for the report; absent attributes are empty."""
    from pydicom.dataset import Dataset

    source = Dataset()
    for keyword in _IDENTIFIERS:
        if not evidence.get(keyword):
            raise ImageError(f"A report refers to its image, and this DICOM file has no {keyword}.")
        setattr(source, keyword, evidence.get(keyword))
    source.SpecificCharacterSet = evidence.get("SpecificCharacterSet") or "ISO_IR 192"
    for keyword in _COPIED:
        setattr(source, keyword, evidence.get(keyword))
    for keyword in ("PatientIdentityRemoved", "DeidentificationMethod"):
        if keyword in evidence:
            setattr(source, keyword, evidence.get(keyword))
    return source
