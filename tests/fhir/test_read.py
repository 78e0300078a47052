"""What triage reads from a Bundle: the same facts that were written, and those of other systems' reports."""

from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from support.findings import Scene, findings, lesion, scene

from radnode_fhir.bundle import transaction
from radnode_fhir.read import facts
from radnode_inference.findings import Kind

ISSUED = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)


@pytest.fixture
def place(tmp_path: Path) -> Scene:
    return scene(tmp_path, shape=(6, 24, 24))


@pytest.fixture
def bundle(place: Scene) -> dict[str, Any]:
    organ = lesion(place, "organ", (0, 0, 0), 4, kind=Kind.ANATOMY, probability=None)
    made = findings(place, (lesion(place, "a", (2, 0, 0), 4), organ))
    return transaction(made, place.study, (), status="preliminary", issued=ISSUED)


def observation(bundle: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = next(
        e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == "Observation"
    )
    return found


def test_our_own_report_is_read_back(place: Scene, bundle: dict[str, Any]) -> None:
    said = facts(bundle)
    truth = lesion(place, "a", (2, 0, 0), 4)
    assert (said.status, said.model, said.study_uid) == ("preliminary", "ct-test", place.study.study_uid)
    assert (said.accession_number, said.patient_id) == ("A123", "PID-7")
    (only,) = said.abnormalities
    assert only.concept == truth.concept
    assert only.probability == truth.probability
    assert only.volume_ml == pytest.approx(truth.measurements[0].value, rel=1e-5)
    assert only.long_axis_mm == 8.0
    assert (only.laterality, only.site, only.critical) == ("left", "Lung", False)
    assert only.tracking_uid == truth.tracking_uid


def test_nothing_found_has_no_abnormality(place: Scene) -> None:
    empty = transaction(findings(place, ()), place.study, (), status="preliminary", issued=ISSUED)
    assert facts(empty).abnormalities == ()


def test_a_retracted_report_has_no_abnormality(bundle: dict[str, Any]) -> None:
    changed = deepcopy(bundle)
    report = next(e["resource"] for e in changed["entry"] if e["resource"]["resourceType"] == "DiagnosticReport")
    report["status"] = "entered-in-error"
    said = facts(changed)
    assert said.retracted
    assert said.abnormalities == ()


def test_a_retracted_observation_does_not_count(bundle: dict[str, Any]) -> None:
    changed = deepcopy(bundle)
    observation(changed)["status"] = "entered-in-error"
    assert facts(changed).abnormalities == ()


def test_an_unknown_unit_is_not_taken_for_another(bundle: dict[str, Any]) -> None:
    changed = deepcopy(bundle)
    for part in observation(changed)["component"]:
        if part.get("valueQuantity", {}).get("code") in ("ml", "mm"):
            part["valueQuantity"]["code"] = "[foz_us]"
    (only,) = facts(changed).abnormalities
    assert (only.volume_ml, only.long_axis_mm) == (None, None)


@pytest.mark.parametrize(("code", "value", "factor"), [("mm3", 1500.0, 0.001), ("cm3", 2.0, 1.0), ("mL", 3.0, 1.0)])
def test_volumes_in_other_units_are_converted(bundle: dict[str, Any], code: str, value: float, factor: float) -> None:
    changed = deepcopy(bundle)
    for part in observation(changed)["component"]:
        if part["code"]["coding"][0]["code"] == "118565006":
            part["valueQuantity"] = {"value": value, "code": code}
    assert facts(changed).abnormalities[0].volume_ml == pytest.approx(value * factor)


def other_system(**more: object) -> dict[str, Any]:
    """A report as another vendor might post it: the finding is the question, ids instead of urn:uuid."""
    seen = {
        "resourceType": "Observation",
        "id": "o1",
        "status": "final",
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": "36118008", "display": "Pneumothorax"}]},
        **more,
    }
    report = {
        "resourceType": "DiagnosticReport",
        "status": "preliminary",
        "code": {"text": "Chest"},
        "result": [{"reference": "Observation/o1"}],
        "basedOn": [{"identifier": {"value": "ACC-9"}}],
    }
    return {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": report}, {"resource": seen}]}


def answer(code: str) -> dict[str, Any]:
    return {"coding": [{"system": "http://snomed.info/sct", "code": code}]}


def interpretation(code: str) -> list[dict[str, Any]]:
    return [{"coding": [{"code": code}]}]


@pytest.mark.parametrize(
    ("more", "abnormal", "critical"),
    [
        ({"valueCodeableConcept": answer("52101004")}, True, False),
        ({"valueCodeableConcept": answer("272519000")}, False, False),
        ({"valueCodeableConcept": answer("2667000"), "interpretation": interpretation("A")}, False, False),
        ({"valueBoolean": True}, True, False),
        ({"valueBoolean": False}, False, False),
        ({"interpretation": interpretation("AA")}, True, True),
        ({"interpretation": interpretation("N")}, False, False),
        ({}, False, False),
    ],
)
def test_another_system_s_report_is_understood(more: dict[str, Any], abnormal: bool, critical: bool) -> None:
    said = facts(other_system(**more))
    assert said.accession_number == "ACC-9"
    assert [a.concept.value for a in said.abnormalities] == (["36118008"] if abnormal else [])
    assert [a.critical for a in said.abnormalities] == ([critical] if abnormal else [])


def test_an_observation_that_the_report_does_not_name_is_not_its(bundle: dict[str, Any]) -> None:
    changed = deepcopy(bundle)
    report = next(e["resource"] for e in changed["entry"] if e["resource"]["resourceType"] == "DiagnosticReport")
    report["result"] = report["result"][1:]
    assert facts(changed).abnormalities == ()


@pytest.mark.parametrize("count", [0, 2])
def test_a_bundle_without_exactly_one_report_is_refused(bundle: dict[str, Any], count: int) -> None:
    report = next(e for e in bundle["entry"] if e["resource"]["resourceType"] == "DiagnosticReport")
    with pytest.raises(ValueError, match="one DiagnosticReport"):
        facts({"resourceType": "Bundle", "entry": [report] * count})


POSITIVE = interpretation("AA")
VERSIONED = [{"reference": "Observation/o1/_history/2"}]
ABSOLUTE = [{"reference": "https://vendor.example/fhir/Observation/o1"}]
NAMED = [{"identifier": {"system": "urn:vendor", "value": "O1"}}]


@pytest.mark.parametrize("result", [VERSIONED, ABSOLUTE, NAMED])
def test_an_observation_is_found_however_it_is_referred_to(result: list[dict[str, Any]]) -> None:
    made = other_system(interpretation=POSITIVE, identifier=[{"system": "urn:vendor", "value": "O1"}])
    made["entry"][0]["resource"]["result"] = result
    said = facts(made)
    assert ([a.critical for a in said.abnormalities], said.unclear) == ([True], "")


def test_a_contained_observation_and_the_members_of_a_panel_are_the_report_s() -> None:
    made = other_system(interpretation=POSITIVE)
    report, seen = (e["resource"] for e in made["entry"])
    panel = {"resourceType": "Observation", "id": "p", "status": "final", "code": {"text": "CT"}}
    member = {**panel, "id": "q", "hasMember": [{"reference": "#o1"}, {"reference": "#p"}]}
    report |= {
        "contained": [seen, {**panel, "hasMember": [{"reference": "#q"}]}, member],
        "result": [{"reference": "#p"}],
    }
    made["entry"] = [{"resource": report}]
    said = facts(made)
    assert ([a.concept.value for a in said.abnormalities], said.unclear) == (["36118008"], "")
    made["entry"] = [
        {"resource": {**report, "contained": [], "result": [{"reference": "Observation/p"}]}},
        {"resource": {**panel, "hasMember": [{"reference": "Observation/o1"}]}},
        {"resource": seen},
    ]
    assert [a.concept.value for a in facts(made).abnormalities] == ["36118008"]


def test_of_several_codes_the_one_of_policies_is_taken_and_all_are_kept() -> None:
    local = {"system": "urn:vendor", "code": "PTX", "display": "Pneumothorax"}
    both = {"coding": [local, {"system": "http://snomed.info/sct", "code": "36118008"}]}
    (found,) = facts(other_system(code=both, valueBoolean=True)).abnormalities
    assert (found.concept.value, found.concept.meaning, found.names) == (
        "36118008",
        "Pneumothorax",
        {"PTX", "36118008"},
    )


def test_a_finding_in_words_is_told_in_those_words() -> None:
    general = {"coding": [{"system": "http://loinc.org", "code": "59776-5"}]}
    (found,) = facts(
        other_system(code=general, valueString="Gas in the\nportal vein", interpretation=POSITIVE)
    ).abnormalities
    assert found.words == "Gas in the portal vein"


def test_an_interpretation_in_words_alone_decides_nothing() -> None:
    (found,) = facts(other_system(valueBoolean=True, interpretation=[{"coding": [{"display": "odd"}]}])).abnormalities
    assert found.concept.value == "36118008"


@pytest.mark.parametrize(
    ("status", "more", "result", "unclear"),
    [
        ("registered", None, [], "the report is not complete yet"),
        ("partial", {"interpretation": POSITIVE}, None, "the report is not complete yet"),
        ("preliminary", {}, [{"reference": "Observation/else"}], "1 of its findings is not here"),
        ("preliminary", None, [], "no finding in it is coded"),
        ("preliminary", {}, None, "no finding in it is coded"),
        ("preliminary", {"interpretation": interpretation("N")}, None, ""),
        ("preliminary", {"valueCodeableConcept": answer("260385009")}, None, ""),
        ("preliminary", {"valueBoolean": False}, None, ""),
    ],
)
def test_a_report_that_is_not_whole_or_not_coded_is_no_report_without_a_finding(
    status: str, more: dict[str, Any] | None, result: list[Any] | None, unclear: str
) -> None:
    made = other_system(**(more or {}))
    made["entry"] = made["entry"] if more is not None else made["entry"][:1]
    made["entry"][0]["resource"] |= {"status": status} | ({} if result is None else {"result": result})
    assert facts(made).unclear == unclear
