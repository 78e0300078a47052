"""Radiologists' edited copies of our reports come back by C-STORE and are rulings on our findings; they start no new revision."""

import hashlib
import shutil
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from sqlalchemy import select, update
from support import filled
from support.results import prepare

from radnode import complete, retract, verdicts
from radnode.database import Database
from radnode.settings import Settings
from radnode.states import StudyState
from radnode.tables import EventRow, InstanceRow, JobRow, ResultRow, StudyRow
from radnode.verdicts import Ruling, Verdict

Change = Callable[[Dataset], None]


@dataclass(frozen=True, kw_only=True)
class Node:
    """A node that holds one study with a lesion, read and reported."""

    settings: Settings
    database: Database
    lesion: str


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The data folder of such a node, and the study."""
    folder = tmp_path_factory.mktemp("reported")
    settings = Settings(data=folder / "data")
    database = prepare(settings)
    study_uid = filled.read(settings, database, folder / "source", 100.0, seed=1, name="MÜLLER^Anna")
    database.close()
    return settings.data, study_uid


@pytest.fixture
def node(reported: tuple[Path, str], tmp_path: Path) -> Iterator[Node]:
    data, study_uid = reported
    shutil.copytree(data, tmp_path / "data")
    settings = Settings(data=tmp_path / "data")
    database = Database(settings.url)
    yield Node(settings=settings, database=database, lesion=study_uid)
    database.close()


def walk(ds: Dataset) -> Iterator[Dataset]:
    for item in ds.get("ContentSequence", ()):
        yield item
        yield from walk(item)


def named(item: Dataset) -> str:
    concept = item.get("ConceptNameCodeSequence")
    return str(concept[0].get("CodeValue", "")) if concept else ""


def ours(node: Node) -> Dataset:
    """The report of the lesion as it was delivered."""
    with node.database.reading() as session:
        query = select(ResultRow.file).where(ResultRow.study_uid == node.lesion, ResultRow.kind == "sr")
        files = session.scalars(query).all()
    read = [pydicom.dcmread(node.settings.data / file) for file in files]
    return next(ds for ds in read if any(named(i) == "111030" for i in walk(ds)))


def as_a_reader_saves_it(ds: Dataset, *, replaces: bool = True) -> None:
    """A new object, signed, in a series of the workstation."""
    previous = Dataset()
    previous.ReferencedSOPClassUID, previous.ReferencedSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    series = Dataset()
    series.SeriesInstanceUID, series.ReferencedSOPSequence = ds.SeriesInstanceUID, [previous]
    study = Dataset()
    study.StudyInstanceUID, study.ReferencedSeriesSequence = ds.StudyInstanceUID, [series]
    if replaces:
        ds.PredecessorDocumentsSequence = [study]
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    ds.SeriesInstanceUID = generate_uid()
    ds.VerificationFlag = "VERIFIED"
    signed = Dataset()
    signed.VerifyingObserverName, signed.VerifyingOrganization = "Rossi^Ada", "Hospital"
    signed.VerificationDateTime, signed.VerifyingObserverIdentificationCodeSequence = "20261122120000", []
    ds.VerifyingObserverSequence = [signed]


def arrive(node: Node, ds: Dataset) -> None:
    """The object is stored and settled."""
    out = BytesIO()
    ds.save_as(out, enforce_file_format=True)
    file = Path("objects") / f"{ds.SOPInstanceUID}.dcm"
    (node.settings.data / file).parent.mkdir(parents=True, exist_ok=True)
    (node.settings.data / file).write_bytes(out.getvalue())
    row = InstanceRow(
        sop_uid=ds.SOPInstanceUID, sha256=hashlib.sha256(out.getvalue()).hexdigest(), study_uid=node.lesion,
        series_uid=ds.SeriesInstanceUID, sop_class_uid=ds.SOPClassUID, transfer_syntax_uid=ExplicitVRLittleEndian,
        calling_ae="READING", called_ae="RADNODE", address="127.0.0.1", file=str(file), size=len(out.getvalue()),
        received_at=1000.0,
    )  # fmt: skip
    with node.database.transaction() as session:
        session.add(row)
    assert complete.settle(node.database, node.settings, since=0.0, now=1001.0) == 1


def after(node: Node, *changes: Change, replaces: bool = True) -> tuple[Verdict, ...]:
    """The rulings once a copy with these changes arrived."""
    ds = ours(node)
    as_a_reader_saves_it(ds, replaces=replaces)
    for change in changes:
        change(ds)
    arrive(node, ds)
    with node.database.reading() as session:
        return verdicts.history(session, node.lesion)


def state(node: Node) -> tuple[str, int]:
    with node.database.reading() as session:
        study = session.get_one(StudyRow, node.lesion)
        return study.state, study.revision


def told(node: Node) -> str:
    with node.database.reading() as session:
        query = select(EventRow.sentence).where(EventRow.study_uid == node.lesion).order_by(EventRow.id.desc())
        return str(session.scalars(query).first())


def larger(ds: Dataset) -> None:
    number = next(i for i in walk(ds) if named(i) == "118565006")
    number.MeasuredValueSequence[0].NumericValue = "9.75"


def on_the_right(ds: Dataset) -> None:
    for side in (i for i in walk(ds) if named(i) == "272741003"):
        code = side.ConceptCodeSequence[0]
        code.CodeValue, code.CodeMeaning = "24028007", "Right"


def moved(ds: Dataset) -> None:
    region = next(i for i in walk(ds) if i.ValueType == "SCOORD")
    region.GraphicData = [float(v) + 3 for v in region.GraphicData]


def absent(ds: Dataset) -> None:
    """An answer "Absent" in each group (PS3.16 CID 240)."""
    for group in (i for i in walk(ds) if named(i) == "125007"):
        item, concept, answer = Dataset(), Dataset(), Dataset()
        concept.CodeValue, concept.CodingSchemeDesignator, concept.CodeMeaning = "363778006", "SCT", "Presence"
        answer.CodeValue, answer.CodingSchemeDesignator, answer.CodeMeaning = "272519000", "SCT", "Absent"
        item.RelationshipType, item.ValueType = "CONTAINS", "CODE"
        item.ConceptNameCodeSequence, item.ConceptCodeSequence = [concept], [answer]
        group.ContentSequence.append(item)


def taken_out(ds: Dataset) -> None:
    holder = next(i for i in walk(ds) if any(named(c) == "125007" for c in i.get("ContentSequence", ())))
    holder.ContentSequence = Sequence([c for c in holder.ContentSequence if named(c) != "125007"])


def one_more(ds: Dataset) -> None:
    """A second group beside ours: another thing, with numbers and places of its own."""
    holder = next(i for i in walk(ds) if any(named(c) == "125007" for c in i.get("ContentSequence", ())))
    group = deepcopy(next(c for c in holder.ContentSequence if named(c) == "125007"))
    for item in walk(group):
        if named(item) == "112040":
            item.UID = generate_uid()
        if named(item) == "272741003":
            item.ConceptCodeSequence[0].CodeValue, item.ConceptCodeSequence[0].CodeMeaning = "24028007", "Right"
    holder.ContentSequence.append(group)


def nobody(ds: Dataset) -> None:
    ds.VerificationFlag = "UNVERIFIED"
    del ds.VerifyingObserverSequence


def test_a_copy_that_changes_nothing_accepts_the_finding_and_starts_no_revision(node: Node) -> None:
    [verdict] = after(node)
    assert (verdict.ruling, verdict.model, verdict.comment) == (Ruling.ACCEPTED, "ct-lung", "")
    assert verdict.who == "Rossi^Ada (edited SR)"
    assert verdict.said.startswith("Nodule, left lung")
    assert state(node) == (StudyState.READ, 1)
    assert told(node).startswith("A finding of ct-lung was accepted in a report from READING: Nodule, left lung")
    with node.database.reading() as session:
        [month] = verdicts.agreement(session)
    assert (month.accepted, month.rejected, month.edited) == (1, 0, 0)


@pytest.mark.parametrize(
    ("change", "comment"),
    [
        (larger, "Volume 9.75 ml instead of"),
        (on_the_right, "Right instead of Left"),
        (moved, "another outline"),
    ],
)
def test_a_copy_that_says_otherwise_edits_the_finding_and_says_how(node: Node, change: Change, comment: str) -> None:
    [verdict] = after(node, change, replaces=False)
    assert verdict.ruling == Ruling.EDITED
    assert comment in verdict.comment


@pytest.mark.parametrize(("change", "comment"), [(absent, "is absent"), (taken_out, "takes the place of ours")])
def test_a_finding_that_a_copy_denies_or_leaves_out_is_rejected(node: Node, change: Change, comment: str) -> None:
    [verdict] = after(node, change)
    assert verdict.ruling == Ruling.REJECTED
    assert comment in verdict.comment


def test_a_finding_that_a_signed_copy_holds_beside_ours_is_one_that_the_model_missed(node: Node) -> None:
    kept, found = after(node, one_more)
    assert (kept.ruling, found.ruling, found.model) == (Ruling.ACCEPTED, Ruling.ADDED, "ct-lung")
    assert found.tracking_uid != kept.tracking_uid
    assert found.comment.startswith("Nodule, Right, Lung, ") and "Long axis 18 mm" in found.comment
    assert state(node) == (StudyState.READ, 1)
    with node.database.reading() as session:
        [month] = verdicts.agreement(session)
    assert (month.accepted, month.added, month.found) == (1, 1, 0.5)


def test_what_is_beside_ours_counts_only_from_a_person_and_in_the_place_of_our_report(node: Node) -> None:
    assert after(node, one_more, nobody) == ()
    [verdict] = after(node, one_more, replaces=False)
    assert verdict.ruling == Ruling.ACCEPTED


def test_a_copy_that_nobody_signed_accepts_nothing_but_may_edit(node: Node) -> None:
    assert after(node, nobody) == ()
    assert "says nothing new" in told(node)
    [verdict] = after(node, nobody, larger)
    assert (verdict.ruling, verdict.who) == (Ruling.EDITED, "nobody named (edited SR)")


def test_a_report_that_has_nothing_of_ours_is_an_object_of_the_study_like_any_other(node: Node) -> None:
    assert after(node, taken_out, replaces=False) == ()
    assert state(node) == (StudyState.RECEIVING, 2)


def test_a_copy_that_ended_a_run_lets_the_study_be_read_again(node: Node) -> None:
    with node.database.transaction() as session:
        session.execute(update(JobRow).where(JobRow.study_uid == node.lesion).values(state="stale"))
    [verdict] = after(node)
    assert verdict.ruling == Ruling.ACCEPTED
    assert state(node) == (StudyState.RECEIVING, 2)


def test_a_retracted_finding_is_not_ruled_on(node: Node) -> None:
    retract.by_person(node.database, node.settings, node.lesion, "ct-lung", "quality", "", 900.0)
    assert after(node, larger) == ()
