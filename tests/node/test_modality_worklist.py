"""The order to read in by C-FIND on the Modality Worklist model, asked for by DCMTK's findscu."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from support import dcmtk
from support.receiver import Receiver, receiver
from support.results import add_study, bundle

from radnode import modality_worklist, orders, priorities
from radnode.errors import RefusedError
from radnode.hl7.listen import take
from radnode.peers.table import Peer, add_peer
from radnode.tables import ReportRow
from radnode.triage import Level
from radnode.worklist import Entry, Reader

ORDER = ("StudyInstanceUID", "RequestedProcedurePriority", "AccessionNumber", "PatientName")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """Four studies: one with a report that hurries, one that a person raised, one plain, one of another day and modality."""
    now = time.time()
    with receiver(tmp_path_factory.mktemp("node")) as made:
        for number, (name, modality, day) in enumerate(
            (("MÜLLER^Anna", "CT", "20261122"), ("WANG^XiaoDong=王^小東", "CT\\SR", "20261122"),
             ("OKAFOR^Chidi", "CT", "20261122"), ("O'NEILL^Ann", "MR", "20261121")), start=1
        ):  # fmt: skip
            add_study(
                made.database, f"1.2.{number}", patient_name=name, patient_id=f"P{number}", modalities=modality,
                accession_number=f"A{number}", study_description="CT [thorax]", study_date=day, study_time="101500",
                patient_sex="F", patient_birth_date="19700101", calling_ae="CT1", issuer_of_patient_id="HOSP",
                first_instance_at=now - 100 + number, last_instance_at=now, due_at=now,
            )  # fmt: skip
        with made.database.transaction() as session:
            said = bundle("1.2.3", "ct", "nodule")
            seen = {"resourceType": "Observation", "status": "preliminary", "code": {"coding": [{"code": "27925004"}]},
                    "interpretation": [{"coding": [{"code": "POS"}]}]}  # fmt: skip
            said["entry"].append({"fullUrl": "urn:uuid:1", "resource": seen})
            session.add(
                ReportRow(id="r", study_uid="1.2.3", model="ct", issued_at=now, updated_at=now, status="preliminary", bundle=said)
            )  # fmt: skip
        priorities.set_level(made.database, "1.2.2", Level.STAT, "", now, stands=Level.ROUTINE)
        add_peer(made.database, Peer(name="ris", ae_title="RIS", may=("worklist",)))
        add_peer(made.database, Peer(name="ct", ae_title="CT1"))
        yield made


def asked(
    node: Receiver, folder: Path, *keys: str, caller: str = "RIS", options: tuple[str, ...] = ()
) -> list[Dataset]:
    """What findscu gets, in the order of the answers."""
    folder.mkdir()
    wanted = [part for key in (*ORDER, *keys) for part in ("-k", key)]
    done = dcmtk.run(
        "findscu", "-W", "-v", "-X", "-od", str(folder), "-aet", caller, "-aec", "RADNODE", *options, *wanted, "127.0.0.1", str(node.port)
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [dcmread(file, force=True) for file in sorted(folder.glob("rsp*"))]


def uids(answers: list[Dataset]) -> list[str]:
    return [str(a.StudyInstanceUID) for a in answers]


def test_the_answers_come_in_the_order_of_the_page_with_their_priorities(node: Receiver, tmp_path: Path) -> None:
    answers = asked(node, tmp_path / "a", "RequestedProcedureComments", "ScheduledProcedureStepSequence[0].Modality")
    page = Reader.of(node.settings, node.database).worklist(time.time()).entries
    assert uids(answers) == [e.study.study_uid for e in page] == ["1.2.2", "1.2.3", "1.2.1", "1.2.4"]
    assert [a.RequestedProcedurePriority for a in answers] == ["STAT", "HIGH", "ROUTINE", "ROUTINE"]
    assert [a.ScheduledProcedureStepSequence[0].Modality for a in answers] == ["CT", "CT", "CT", "MR"]
    assert answers[0].RequestedProcedureComments.startswith("Set to STAT by a person")
    assert str(answers[0].PatientName).startswith("WANG^XiaoDong=王^小東")
    assert "PatientID" not in answers[0], "what nobody asked for does not leave"


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("RequestedProcedurePriority=STAT", ["1.2.2"]),
        ("AccessionNumber=A3", ["1.2.3"]),
        ("AccessionNumber=A9", []),
        ("PatientName=müller*", ["1.2.1"]),
        ("PatientName=*n?", ["1.2.2", "1.2.1", "1.2.4"]),
        ("PatientName=wang^xiaodong", ["1.2.2"]),
        ("PatientName=王*", ["1.2.2"]),
        ("PatientName==王^小東", ["1.2.2"]),
        ("PatientName=Wang^*=李*", ["1.2.2"]),
        ("PatientName=李*", []),
        ("AccessionNumber=A9\\A3", ["1.2.3"]),
        ("PatientID=P?", ["1.2.2", "1.2.3", "1.2.1", "1.2.4"]),
        ("StudyInstanceUID=1.2.1\\1.2.4", ["1.2.1", "1.2.4"]),
        ("RequestedProcedureDescription=CT [thorax]", ["1.2.2", "1.2.3", "1.2.1", "1.2.4"]),
        ("RequestedProcedureDescription=CT t", []),
        ("ScheduledProcedureStepSequence[0].Modality=MR", ["1.2.4"]),
        ("ScheduledProcedureStepSequence[0].ScheduledProcedureStepStartDate=20261121", ["1.2.4"]),
        ("ScheduledProcedureStepSequence[0].ScheduledProcedureStepStartDate=20261122-", ["1.2.2", "1.2.3", "1.2.1"]),
        ("ScheduledProcedureStepSequence[0].ScheduledProcedureStepStartDate=-20261121", ["1.2.4"]),
        ("ScheduledProcedureStepSequence[0].ScheduledProcedureStepStartTime=1000-1015", ["1.2.2", "1.2.3", "1.2.1", "1.2.4"]),
        ("ScheduledProcedureStepSequence[0].ScheduledProcedureStepStartTime=11-12", []),
        ("ScheduledProcedureStepSequence[0].ScheduledStationAETitle=CT1", ["1.2.2", "1.2.3", "1.2.1", "1.2.4"]),
        ("ReferringPhysicianName=NOBODY", ["1.2.2", "1.2.3", "1.2.1", "1.2.4"]),
    ],
)  # fmt: skip
def test_every_key_matches_as_the_standard_says(node: Receiver, key: str, found: list[str]) -> None:
    tag, _, value = key.partition("=")
    request, entries = Dataset(), Reader.of(node.settings, node.database).worklist(time.time()).entries
    request.StudyInstanceUID = ""
    step, _, inner = tag.partition("[0].")
    target = request
    if inner:
        target = Dataset()
        request.ScheduledProcedureStepSequence = Items([target])
    setattr(target, inner or step, value.split("\\") if "\\" in value else value)
    assert uids([item for _, item in modality_worklist.answers(request, entries)]) == found


def test_a_key_that_is_not_kept_is_empty_and_the_status_says_so(node: Receiver) -> None:
    entries = Reader.of(node.settings, node.database).worklist(time.time()).entries
    request = Dataset()
    request.PatientID = "P1"
    ((status, item),) = modality_worklist.answers(request, entries)
    assert (status, item.PatientID) == (0xFF00, "P1")
    request.ReferringPhysicianName = ""
    ((status, item),) = modality_worklist.answers(request, entries)
    assert (status, str(item.ReferringPhysicianName or "")) == (0xFF01, "")
    request.ScheduledProcedureStepSequence = Items([Dataset(), Dataset()])
    with pytest.raises(RefusedError, match="more than one item"):
        list(modality_worklist.answers(request, entries))


def test_a_long_name_is_cut_a_long_number_left_out_and_a_study_without_values_has_empty_ones(node: Receiver) -> None:
    first: Entry = Reader.of(node.settings, node.database).worklist(time.time()).entries[0]
    bare = replace(
        first, study=replace(first.study, accession_number="A" * 40, modalities="", patient_id="", study_date="")
    )
    item = modality_worklist.study(bare)
    assert item.AccessionNumber == ""  # a part of a number would be another number
    assert item.ScheduledProcedureStepSequence[0].Modality == ""


def test_who_has_no_right_gets_nothing_and_other_models_no_context(node: Receiver, tmp_path: Path) -> None:
    keys = ("-k", "PatientID")
    done = dcmtk.run("findscu", "-W", "-v", "-aet", "CT1", "-aec", "RADNODE", *keys, "127.0.0.1", str(node.port))
    said = done.stdout + done.stderr
    assert "0x124" in said and "P1" not in said, said  # PS3.7 annex C: not authorized
    other = dcmtk.run("findscu", "-S", "-aet", "RIS", "-aec", "RADNODE", "-k", "QueryRetrieveLevel=STUDY", *keys, "127.0.0.1", str(node.port))  # fmt: skip
    assert "No Acceptable Presentation Contexts" in other.stdout + other.stderr


def test_small_pdus_and_implicit_vr_carry_the_same(node: Receiver, tmp_path: Path) -> None:
    answers = asked(node, tmp_path / "small", "PatientID", options=("-xi", "-pdu", "4096"))
    assert uids(answers) == ["1.2.2", "1.2.3", "1.2.1", "1.2.4"]
    assert [a.PatientID for a in answers] == ["P2", "P3", "P1", "P4"]


OMI = (
    "MSH|^~\\&|RIS|HOSP|RADNODE||20261122101600||OMI^O23^OMI_O23|M2|P|2.5.1\r"
    "PID|1||{patient}^^^HOSP||OGAWA^Mei\rPV1|1|O\rORC|NW|{number}\rTQ1|1||||||20261123081500||S\r"
    "OBR|1|{number}||71260^CT chest\rIPC|{accession}|RP1|1.2.{number}|SPS|CT\r"
)


def test_orders_without_images_come_after_the_studies_and_go_when_their_images_come(
    node: Receiver, tmp_path: Path
) -> None:
    for number, accession, patient in ((78, "A78", "P9"), (1, "A1", "P1"), (2, "A1", "P7")):
        message = OMI.format(number=number, accession=accession, patient=patient)
        assert "MSA|AA" in take(node.database, message.encode(), "127.0.0.1", "utf-8", time.time())
    with node.database.reading() as session:
        waiting = orders.expected(session, time.time())
    assert [(o.accession_number, o.patient_id) for o in waiting] == [("A78", "P9"), ("A1", "P7")], (
        "of A1 the images are P1's"
    )
    found = asked(node, tmp_path / "all", "ScheduledProcedureStepSequence[0].ScheduledProcedureStepStatus")
    status = [i.ScheduledProcedureStepSequence[0].ScheduledProcedureStepStatus for i in found]
    assert status == ["STARTED"] * 4 + ["SCHEDULED"] * 2
    step = "ScheduledProcedureStepSequence[0]"
    only = asked(
        node, tmp_path / "one", f"{step}.ScheduledProcedureStepStatus=SCHEDULED", f"{step}.Modality=CT",
        f"{step}.ScheduledProcedureStepStartDate=20261123", f"{step}.ScheduledProcedureStepStartTime",
        "RequestedProcedureDescription", "PatientID=P9",
    )  # fmt: skip
    [item] = only
    assert (str(item.PatientName), item.StudyInstanceUID, item.RequestedProcedurePriority) == (
        "OGAWA^Mei",
        "1.2.78",
        "STAT",
    )
    assert (item.AccessionNumber, item.RequestedProcedureDescription) == ("A78", "CT chest")
    assert item.ScheduledProcedureStepSequence[0].ScheduledProcedureStepStartTime == "081500"
    cancelled = (
        OMI.format(number=78, accession="A78", patient="P9").replace("ORC|NW", "ORC|CA").replace("101600", "101700")
    )
    assert "MSA|AA" in take(node.database, cancelled.encode(), "127.0.0.1", "utf-8", time.time())
    with node.database.reading() as session:
        assert [o.patient_id for o in orders.expected(session, time.time())] == ["P7"]
        assert orders.expected(session, time.time() + 8 * 86400) == ()
