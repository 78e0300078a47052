"""A result as a FHIR R4 transaction: valid, honest about being AI, and harmless when it is sent twice."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B.bundle import Bundle
from pydicom.dataset import Dataset
from support.findings import BREAST, LEFT, MODEL, Scene, findings, lesion, scene

from radnode_fhir.bundle import transaction, uid_of
from radnode_inference.findings import Code, Finding, Findings, Kind, device_uid, tracking_uid

ISSUED = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)

REQUIRED: dict[tuple[str, str], set[str]] = {
    ("DiagnosticReport", "status"): {
        "registered", "partial", "preliminary", "final", "amended", "corrected", "appended", "cancelled",
        "entered-in-error", "unknown",
    },
    ("Observation", "status"): {
        "registered", "preliminary", "final", "amended", "corrected", "cancelled", "entered-in-error", "unknown",
    },
    ("ImagingStudy", "status"): {"registered", "available", "cancelled", "entered-in-error", "unknown"},
    ("Device", "status"): {"active", "inactive", "entered-in-error", "unknown"},
}  # fmt: skip
"""Value sets of required bindings, R4: fhir.resources does not check them."""
DEVICE_NAMES = {
    "udi-label-name",
    "user-friendly-name",
    "patient-reported-name",
    "manufacturer-name",
    "model-name",
    "other",
}
ENTITY_ROLES = {"derivation", "revision", "quotation", "source", "removal"}


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A DICOM object as far as FHIR cares."""

    kind: str
    sop_class_uid: str
    sop_uid: str
    series_uid: str


OBJECTS = (
    Stored(kind="seg", sop_class_uid="1.2.840.10008.5.1.4.1.1.66.4", sop_uid="2.25.11", series_uid="2.25.1"),
    Stored(kind="sr", sop_class_uid="1.2.840.10008.5.1.4.1.1.88.34", sop_uid="2.25.12", series_uid="2.25.2"),
    Stored(kind="key-image", sop_class_uid="1.2.840.10008.5.1.4.1.1.7", sop_uid="2.25.13", series_uid="2.25.3"),
    Stored(kind="key-image", sop_class_uid="1.2.840.10008.5.1.4.1.1.7", sop_uid="2.25.14", series_uid="2.25.3"),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return scene(tmp_path_factory.mktemp("series"), shape=(6, 24, 24))


def small(place: Scene, *items: Finding, **more: object) -> Findings:
    return findings(place, items or (lesion(place, "a", (2, 0, 0), 4), lesion(place, "b", (-3, 0, 0), 3)), **more)


def sent(made: Findings, place: Scene, **more: Any) -> dict[str, Any]:
    return transaction(made, place.study, OBJECTS, **{"status": "preliminary", "issued": ISSUED, **more})


def resources(bundle: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == kind]


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("reference"), str):
            yield node["reference"]
        for value in node.values():
            yield from references(value)
    if isinstance(node, list):
        for value in node:
            yield from references(value)


def whole(place: Scene) -> Finding:
    return Finding(
        tracking_id="whole",
        tracking_uid=tracking_uid(place.study.study_uid, MODEL, "whole"),
        kind=Kind.EXAMINATION,
        concept=Code(value="86049000", scheme="SCT", meaning="Malignant neoplasm, primary"),
        site=BREAST,
        laterality=LEFT,
        probability=0.125,
    )


def variants(place: Scene) -> dict[str, dict[str, Any]]:
    return {
        "two": sent(small(place), place),
        "none": sent(findings(place, ()), place),
        "whole": sent(small(place, whole(place)), place),
        "amended": sent(small(place), place, status="amended"),
        "demonstration": sent(small(place, model=replace(MODEL, demonstration=True)), place),
        "partial": sent(small(place, partial_because="Half of it."), place),
    }


@pytest.mark.parametrize("name", ["two", "none", "whole", "amended", "demonstration", "partial"])
def test_every_bundle_is_valid_r4(place: Scene, name: str) -> None:
    bundle = variants(place)[name]
    Bundle.model_validate(json.loads(json.dumps(bundle)))
    for entry in bundle["entry"]:
        resource = entry["resource"]
        for (kind, field), allowed in REQUIRED.items():
            if resource["resourceType"] == kind:
                assert resource[field] in allowed
    assert {n["type"] for d in resources(bundle, "Device") for n in d["deviceName"]} <= DEVICE_NAMES
    assert {e["role"] for p in resources(bundle, "Provenance") for e in p["entity"]} <= ENTITY_ROLES
    addresses = [e["fullUrl"] for e in bundle["entry"]]
    assert len(set(addresses)) == len(addresses)
    assert set(references(bundle)) <= set(addresses)


def test_sending_it_twice_makes_nothing_twice(place: Scene) -> None:
    """Each entry finds what it made before: by identifier, or by an id of its own."""
    for entry in sent(small(place), place)["entry"]:
        request, resource = entry["request"], entry["resource"]
        kind = resource["resourceType"]
        if request["method"] == "POST":
            found = request["ifNoneExist"]
        elif "?" in request["url"]:
            found = request["url"].removeprefix(kind + "?")
        else:
            assert request["url"] == f"{kind}/{resource['id']}"
            continue
        first = resource["identifier"][0]
        assert found == f"identifier={first['system']}%7C{first['value']}"


def test_equal_findings_are_the_same_bundle(place: Scene) -> None:
    assert sent(small(place), place) == sent(small(place), place)
    assert uid_of(sent(small(place), place)) != uid_of(sent(small(place, whole(place)), place))
    assert uid_of(sent(small(place), place)) != uid_of(sent(small(place), place, status="amended"))


def test_a_changed_result_changes_the_same_report(place: Scene) -> None:
    first, second = sent(small(place), place), sent(small(place, whole(place)), place, status="amended")
    one, two = (resources(b, "DiagnosticReport")[0] for b in (first, second))
    assert one["identifier"] == two["identifier"]
    assert two["status"] == "amended"
    assert {o["status"] for o in resources(second, "Observation")} == {"amended"}


def test_the_report_says_that_it_is_ai_and_nobody_signed_it(place: Scene) -> None:
    bundle = sent(small(place), place)
    (report,) = resources(bundle, "DiagnosticReport")
    assert report["conclusion"].startswith("AI (not verified by a radiologist): Nodule, left lung")
    assert not {"performer", "resultsInterpreter"} & set(report)
    for kind in ("DiagnosticReport", "Observation", "Provenance"):
        for resource in resources(bundle, kind):
            assert resource["meta"]["security"][0]["code"] == "AIAST"


def test_demonstration_and_part_are_said_in_the_conclusion(place: Scene) -> None:
    made = small(place, model=replace(MODEL, demonstration=True), partial_because="Half of it.")
    (report,) = resources(sent(made, place), "DiagnosticReport")
    assert "NOT FOR CLINICAL USE" in report["conclusion"]
    assert "PARTIAL: Half of it." in report["conclusion"]


def test_patient_and_order_are_pointed_at_by_what_the_images_say(place: Scene) -> None:
    bundle = sent(small(place), place)
    assert not {"Patient", "ServiceRequest"} & {e["resource"]["resourceType"] for e in bundle["entry"]}
    (report,) = resources(bundle, "DiagnosticReport")
    subject, order = report["subject"], report["basedOn"][0]
    assert (subject["identifier"]["value"], subject["identifier"]["assigner"]) == ("PID-7", {"display": "HOSPITAL"})
    assert "display" not in subject
    assert order["identifier"]["value"] == "A123"


def test_an_unnamed_patient_is_left_out_not_invented(tmp_path: Path) -> None:
    def unnamed(ds: Dataset) -> None:
        ds.PatientID = ds.AccessionNumber = ds.StudyDate = ds.StudyTime = ds.StudyDescription = ""

    unknown = scene(tmp_path, shape=(4, 16, 16), change=unnamed)
    bundle = sent(small(unknown, lesion(unknown, "a", (0, 0, 0), 3)), unknown)
    Bundle.model_validate(bundle)
    (report,) = resources(bundle, "DiagnosticReport")
    assert not {"subject", "basedOn", "effectiveDateTime"} & set(report)


def test_an_observation_carries_the_numbers_and_the_tracking_uid(place: Scene) -> None:
    made = small(place)
    observation = resources(sent(made, place), "Observation")[0]
    finding = made.items[0]
    assert observation["identifier"][0] == {"system": "urn:dicom:uid", "value": f"urn:oid:{finding.tracking_uid}"}
    parts = {c["code"]["coding"][0]["code"]: c for c in observation["component"]}
    assert parts["111012"]["valueQuantity"] == {
        "value": 81.25, "unit": "%", "system": "http://unitsofmeasure.org", "code": "%",
    }  # fmt: skip
    assert parts["118565006"]["valueQuantity"]["value"] == pytest.approx(finding.measurements[0].value, rel=1e-5)
    assert parts["103339001"]["valueQuantity"]["code"] == "mm"
    assert observation["interpretation"][0]["coding"][0]["code"] == "A"
    assert observation["bodySite"]["text"] == "left lung"
    assert observation["category"][0]["coding"][0]["code"] == "imaging"


def test_an_organ_is_not_abnormal(place: Scene) -> None:
    organ = lesion(place, "lung", (0, 0, 0), 4, kind=Kind.ANATOMY, probability=None)
    bundle = sent(small(place, organ), place)
    assert "interpretation" not in resources(bundle, "Observation")[0]
    assert "conclusionCode" not in resources(bundle, "DiagnosticReport")[0]
    assert "measurements only" in resources(bundle, "DiagnosticReport")[0]["conclusion"]


def test_the_imaging_study_lists_source_and_result_series(place: Scene) -> None:
    (study,) = resources(sent(small(place), place), "ImagingStudy")
    assert study["identifier"][0] == {"system": "urn:dicom:uid", "value": f"urn:oid:{place.study.study_uid}"}
    assert [s["modality"]["code"] for s in study["series"]] == ["CT", "SEG", "SR", "OT"]
    assert study["numberOfInstances"] == 6 + 4
    assert [i["uid"] for i in study["series"][-1]["instance"]] == ["2.25.13", "2.25.14"]


def test_the_device_is_that_of_the_dicom_objects(place: Scene) -> None:
    (device,) = resources(sent(small(place), place), "Device")
    assert device["identifier"][0]["value"] == f"urn:oid:{device_uid(MODEL)}"
    assert MODEL.weights_sha256 in {v["value"] for v in device["version"]}


def test_a_time_without_a_zone_is_refused(place: Scene) -> None:
    with pytest.raises(ValueError, match="time zone"):
        sent(small(place), place, issued=datetime(2026, 3, 1))
