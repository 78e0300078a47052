"""A node's database as after a morning's work: studies in every state, results of the real writers, deliveries and refusals."""

import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pydicom
from sqlalchemy import select, update
from support.findings import MODEL, Scene, findings, lesion, scene
from support.results import Ended, add_job, add_study, prepare, record

from radnode import report
from radnode.database import Database
from radnode.peers import table as peers
from radnode.settings import Destination, Settings
from radnode.tables import DeliveryRow, EventRow, InstanceRow, RouteRow
from radnode_inference.findings import Findings

PACS = Destination(name="pacs", kind="dimse", host="127.0.0.1", port=104, ae_title="PACS")
EHR = Destination(name="ehr", kind="fhir", url="http://127.0.0.1:1/fhir")


@dataclass(frozen=True, kw_only=True)
class Filled:
    """lesion, normal, declined, failed, phantom, arriving, demonstration: Study Instance UIDs."""

    settings: Settings
    database: Database
    lesion: str
    normal: str
    declined: str
    failed: str
    phantom: str
    arriving: str
    demonstration: str


def fill(folder: Path, now: float | None = None, **more: object) -> Filled:
    """A node in `folder`. more: further settings."""
    now = time.time() if now is None else now
    settings = Settings(data=folder / "data", destinations=(PACS, EHR), **more)  # type: ignore[arg-type]
    database = prepare(settings)
    node = Filled(
        settings=settings,
        database=database,
        lesion=read(settings, database, folder / "a", now - 300, seed=1, name="MÜLLER^Anna"),
        normal=read(settings, database, folder / "b", now - 5000, seed=2, name="SCHMIDT^Jonas", items=()),
        declined=study(database, "1.2.3.1", now - 4000, "PEREIRA^Maria", "CT Thorax low dose", "ct-lung", "declined",
                       "Slices 41 and 42 lie 12.5 mm apart, the others 2.5 mm: images are missing."),
        failed=study(database, "1.2.3.2", now - 2000, "OKAFOR^Chidi", "MR Mammography", "mr-breast-kinetics", "failed",
                     "The worker ended three times while it ran (signal 9)."),
        phantom=study(database, "1.2.3.3", now - 900, "QA^PHANTOM", "Daily QA", "", "",
                      "A quality-assurance phantom: PatientID contains QA."),
        arriving=study(database, "1.2.3.4", now - 4, "LINDQVIST^Åsa", "MR Mammography", None, "", ""),
        demonstration=read(settings, database, folder / "c", now - 100, seed=3, name="GENERATED^One", demonstration=True),
    )  # fmt: skip
    deliver_some(database, node, now)
    peers.add_peer(database, peers.Peer(name="ct-1", ae_title="CT1", address="10.1.2.3", port=104))
    peers.record_refusal(database, "MR_NEW", "RADNODE", "10.1.2.77", "The caller is not among the peers.")
    peers.record_refusal(database, "MR_NEW", "RADNODE", "10.1.2.77", "The caller is not among the peers.")
    return node


def study(
    database: Database, uid: str, at: float, name: str, title: str, model: str | None, state: str, reason: str
) -> str:
    """A study without results. model None: still arriving; "": not routed, for `reason`; else a job in `state`."""
    modality = "CT" if title.startswith("CT") else "MR"
    add_study(
        database, uid, state="receiving" if model is None else "read", patient_name=name, patient_id=f"P{uid[-1]}",
        accession_number=f"A-10{uid[-1]}", study_description=title, study_date="20261122", modalities=modality,
        instances=240, calling_ae="CT1", first_instance_at=at, last_instance_at=at + 3,
    )  # fmt: skip
    story(database, uid, at, ("arrived", "The first image arrived from CT1."))
    if model is not None:
        chosen = bool(model)
        route(database, uid, model, chosen, "Chest CT of a patient." if chosen else reason)
        story(database, uid, at + 13, ("complete", "240 images, quiet for 10 s."))
    if model:
        add_job(database, uid, model, state=state, reason=reason, created_at=at, started_at=at + 13, ended_at=at + 15.5)
        story(database, uid, at + 16, (state, reason))
    return uid


def read(
    settings: Settings, database: Database, folder: Path, at: float, *, seed: int, name: str, items: object = None,
    demonstration: bool = False,
) -> str:  # fmt: skip
    """A study that a model read, with every object that the real writers make of it."""
    made = scene(folder, seed=seed, shape=(12, 96, 96))
    said = findings(made, (lesion(made, "nodule-1", (5, 3, 2), 9.0),) if items is None else ())
    said = replace(said, model=replace(MODEL, name="ct-lung", demonstration=demonstration))
    uid = said.study_uid
    first = made.study.series[0].headers[0]
    add_study(
        database, uid, state="read", patient_name=name, patient_id=first.text("PatientID"), study_date="20261122",
        accession_number=f"A-20{seed}", study_description="CT Chest", modalities="CT", body_part="CHEST", study_time="081500",
        patient_sex="F", patient_birth_date="19601231", instances=12, calling_ae="CT1",
        first_instance_at=at, last_instance_at=at + 3,
    )  # fmt: skip
    route(database, uid, "ct-lung", True, "Chest CT: series 3 has 12 axial images.")
    route(database, uid, "ct-voco", False, "Not installed: weights missing.")
    instances(settings, database, made, said, at)
    job = add_job(
        database, uid, "ct-lung", state="done", created_at=at + 13, started_at=at + 13, ended_at=at + 17, progress=1.0
    )
    tell_and_record(settings, database, job, said, made, at)
    return uid


def tell_and_record(
    settings: Settings, database: Database, job: Ended, said: Findings, made: object, at: float
) -> None:
    results = report.results(said, made.study)  # type: ignore[attr-defined]
    record(database, settings.data, job, list(results), settings.destinations, now=at + 17)
    for after, action, sentence in (
        (0, "arrived", "The first image arrived from CT1."),
        (13, "complete", "12 images, quiet for 10 s."),
        (13, "started", "ct-lung started (attempt 1)."),
        (17, "done", f"ct-lung ended: {len(results)} results."),
    ):
        story(database, said.study_uid, at + after, (action, sentence))


def instances(settings: Settings, database: Database, made: Scene, said: Findings, at: float) -> None:
    """Every image of the scene, kept as the store would."""
    folder = settings.data / "objects" / said.study_uid
    folder.mkdir(parents=True, exist_ok=True)
    files = {str(pydicom.dcmread(f, stop_before_pixels=True).SOPInstanceUID): f for f in made.folder.glob("*.dcm")}
    with database.transaction() as session:
        for source in said.volume.sources:
            kept = shutil.copy(files[source.sop_uid], folder / f"{source.sop_uid}.dcm")
            session.add(
                InstanceRow(
                    sop_uid=source.sop_uid, sha256="0" * 64, study_uid=said.study_uid, series_uid=said.series_uid,
                    sop_class_uid=source.sop_class_uid, transfer_syntax_uid="1.2.840.10008.1.2.1", calling_ae="CT1",
                    called_ae="RADNODE", address="10.1.2.3", file=str(kept.relative_to(settings.data)),
                    size=kept.stat().st_size, received_at=at, settled=True,
                )
            )  # fmt: skip


def route(database: Database, uid: str, model: str, chosen: bool, reason: str) -> None:
    with database.transaction() as session:
        session.add(RouteRow(study_uid=uid, revision=1, model=model, chosen=chosen, urgency=0, reason=reason))


def story(database: Database, uid: str, at: float, event: tuple[str, str]) -> None:
    with database.transaction() as session:
        session.add(EventRow(study_uid=uid, at=at, action=event[0], sentence=event[1]))


def deliver_some(database: Database, node: Filled, now: float) -> None:
    """The PACS has everything but one object that it refuses for good; the FHIR server is away."""
    with database.transaction() as session:
        session.execute(
            update(DeliveryRow)
            .where(DeliveryRow.destination == "pacs")
            .values(state="delivered", delivered_at=now - 60)
        )
        session.execute(
            update(DeliveryRow)
            .where(DeliveryRow.destination == "ehr")
            .values(attempt=4, due_at=now + 80, error="http://127.0.0.1:1/fhir does not answer: ConnectError")
        )
        query = select(DeliveryRow).where(DeliveryRow.study_uid == node.lesion, DeliveryRow.destination == "pacs")
        refused = session.scalars(query.order_by(DeliveryRow.id)).first()
        assert refused is not None
        refused.state, refused.delivered_at, refused.attempt = "dead", None, 1
        refused.error = "SOP class 1.2.840.10008.5.1.4.1.1.66.4: abstract syntax not supported"
