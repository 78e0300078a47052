"""Debian's Orthanc as the PACS: it sends studies by C-STORE, and the results come back to it, under the same studies."""

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from support.node_process import TestNode
from support.orthanc import Orthanc
from support.sending import dataset_bytes
from support.studies import Sample, small_breast, small_chest
from support.validators import dciodvfy, dcmdump, dsrdump

from radnode.states import DeliveryState, JobState
from radnode.tables import DeliveryRow, JobRow, ResultRow

pytestmark = pytest.mark.system

SR, SEG = "SR", "SEG"
PATIENT_AND_STUDY = (
    "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate",
    "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName", "StudyDescription",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class Round:
    """A study that went the whole way. sources, results: SOP Instance UID -> the file in the PACS."""

    sample: Sample
    sources: dict[str, bytes]
    results: dict[str, bytes]
    rows: list[ResultRow]
    deliveries: list[DeliveryRow]
    jobs: list[JobRow]
    stored: dict[str, bytes]
    page: str


@pytest.fixture(scope="module")
def rounds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Orthanc, dict[str, Round]]]:
    folder = tmp_path_factory.mktemp("pacs")
    samples = {"breast": small_breast(folder / "breast", seed=7), "chest": small_chest(folder / "chest", seed=6)}
    with Orthanc(folder / "orthanc") as pacs, TestNode(folder) as node:
        pacs.know_node(node.receive_port)
        gets_results(node, pacs)
        for sample in samples.values():
            for file in sample.files:
                pacs.upload(file.read_bytes())
            pacs.send_to_node(sample.study_uid)
        yield pacs, {name: went(sample, pacs, node) for name, sample in samples.items()}


def gets_results(node: TestNode, pacs: Orthanc) -> None:
    """Orthanc is made a destination on the page of the running node: as a peer that gets results."""
    place = {"name": "pacs", "ae_title": pacs.ae_title, "address": "127.0.0.1", "port": str(pacs.dicom_port)}
    said = node.http.post("/peers", data=place | {"may": ["send", "results"], "chosen": "true"}, follow_redirects=True)
    assert said.status_code == 200 and "<td>dimse</td>" in said.text


def went(sample: Sample, pacs: Orthanc, node: TestNode) -> Round:
    jobs = node.wait_until_read(sample.study_uid)
    deliveries = node.wait_until_delivered(sample.study_uid)
    files = pacs.files(sample.study_uid)
    sources = {uid for uid, file in files.items() if file_modality(file) in ("MR", "CT")}
    page = node.http.get(f"/studies/{sample.study_uid}")
    assert page.status_code == 200
    return Round(
        sample=sample,
        sources={uid: file for uid, file in files.items() if uid in sources},
        results={uid: file for uid, file in files.items() if uid not in sources},
        rows=node.rows(ResultRow, study_uid=sample.study_uid, current=True),
        deliveries=deliveries,
        jobs=jobs,
        stored=node.stored(sample.study_uid),
        page=page.text,
    )


def file_modality(file: bytes) -> str:
    return str(pydicom.dcmread(BytesIO(file), specific_tags=["Modality"]).Modality)


Rounds = tuple[Orthanc, dict[str, Round]]
NAMES = pytest.mark.parametrize("name", ["breast", "chest"])


@NAMES
def test_what_orthanc_sent_lies_in_the_node_byte_for_byte(name: str, rounds: Rounds) -> None:
    _, done = rounds
    sent = {uid: dataset_bytes(file) for uid, file in done[name].sources.items()}
    assert len(sent) == len(done[name].sample.files)
    assert {uid: dataset_bytes(file) for uid, file in done[name].stored.items()} == sent


@NAMES
def test_every_current_result_stands_in_the_pacs_once_and_nothing_else_does(name: str, rounds: Rounds) -> None:
    _, done = rounds
    made = {row.uid for row in done[name].rows if row.kind != "fhir"}
    assert made and done[name].results.keys() == made
    assert {d.state for d in done[name].deliveries} == {DeliveryState.DELIVERED}
    assert JobState.DONE in {j.state for j in done[name].jobs}


@NAMES
def test_qido_finds_sr_and_seg_under_the_original_study(name: str, rounds: Rounds) -> None:
    pacs, done = rounds
    study_uid = done[name].sample.study_uid
    (study,) = pacs.qido("studies", StudyInstanceUID=study_uid)
    modalities = set(study["00080061"]["Value"])
    assert {SR, SEG} <= modalities
    instances = pacs.qido(f"studies/{study_uid}/instances")
    found = {i["00080018"]["Value"][0] for i in instances}
    assert done[name].results.keys() <= found


@NAMES
def test_patient_and_study_attributes_are_those_of_the_source(name: str, rounds: Rounds) -> None:
    _, done = rounds
    source = pydicom.dcmread(done[name].sample.files[0], stop_before_pixels=True)
    wanted = {keyword: source.get(keyword, "") for keyword in PATIENT_AND_STUDY}
    assert wanted["PatientID"] and wanted["StudyDate"]
    for uid, file in done[name].results.items():
        result = pydicom.dcmread(BytesIO(file), stop_before_pixels=True)
        got = {keyword: result.get(keyword, "") for keyword in PATIENT_AND_STUDY}
        assert got == wanted, f"{result.Modality} {uid}"


@NAMES
def test_dciodvfy_dsrdump_and_dcmdump_have_nothing_against_any_object(
    name: str, rounds: Rounds, tmp_path: Path
) -> None:
    _, done = rounds
    complaints = {}
    for uid, file in done[name].results.items():
        path = tmp_path / f"{uid}.dcm"
        path.write_bytes(file)
        modality = file_modality(file)
        found = [*dciodvfy(path), *dcmdump(path), *(dsrdump(path) if modality == SR else [])]
        if found:
            complaints[f"{modality} {uid}"] = found
    assert complaints == {}


@NAMES
def test_the_page_of_the_study_says_what_was_delivered_where(name: str, rounds: Rounds) -> None:
    _, done = rounds
    assert "pacs" in done[name].page
    assert "delivered" in done[name].page.lower()
    for job in done[name].jobs:
        assert job.model in done[name].page
