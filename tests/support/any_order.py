"""A node whose steps a test takes one at a time, in any order, with a PACS and a FHIR server that keep what they are sent."""

import json
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from support.core import dataset, encoded
from support.models import card
from support.objects import dataset_of
from support.results import dicom_result, prepare
from support.store import arrival_of

from radnode import complete, deliver, evidence, faults, jobs, pipeline, results, retention, retract
from radnode.breaker import Breaker
from radnode.errors import DeliveryError, NotTakenError
from radnode.jobs import Job
from radnode.outbox import Outbox
from radnode.resend import rejected
from radnode.settings import Complete, Condition, Deliver, Destination, Receive, Retention, Rule, Settings, Work
from radnode.states import JobState
from radnode.store import Store
from radnode_fhir.codes import AI_ASSERTED
from radnode_fhir.identifiers import full_url, identifier, query
from radnode_inference.findings import uid_from
from radnode_inference.model import DeclinedError

PACS = Destination(name="pacs", kind="dimse", host="127.0.0.1", port=1, ae_title="PACS")
EHR = Destination(name="ehr", kind="fhir", url="http://127.0.0.1:1/")
MODELS = ("first", "second")
CARDS = {name: card(name, "quick") for name in MODELS}
QUIET_S, WAIT_S = 10.0, 45.0


class DiedError(BaseException):
    """The process ends at this point; what was not committed is gone."""


class Clock:
    """The time that the node sees, from now on set by the test alone."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 1_800_000_000.0
        patch.setattr(time, "time", self.read)

    def read(self) -> float:
        self.now += 0.001
        return self.now


@dataclass
class Pacs:
    """It keeps objects until a rejection note names them. objects: SOP Instance UID -> the file."""

    objects: dict[str, Path] = field(default_factory=dict)

    def take(self, delivery: Any) -> None:
        if delivery.kind == "rejection":
            for uid in rejected(delivery.path):
                self.objects.pop(uid, None)
        else:
            self.objects[delivery.uid] = delivery.path


@dataclass
class Server:
    """It keeps the newest version of every resource. resources: its full URL -> the resource."""

    resources: dict[str, dict[str, Any]] = field(default_factory=dict)

    def take(self, delivery: Any) -> None:
        for entry in json.loads(delivery.path.read_bytes())["entry"]:
            self.resources[entry["fullUrl"]] = entry["resource"]

    def standing(self, study_uid: str, model: str) -> set[str]:
        """What it shows of a study and a model: the texts of report and findings that are not in error."""
        return {
            r["code"]["text"]
            for r in self.resources.values()
            if r["identifier"][0]["assigner"]["display"] == f"{study_uid} {model}" and r["status"] != "entered-in-error"
        }


@dataclass
class Run:
    """A job in a worker's hands. images: what the model was given; None before that."""

    job: Job
    images: frozenset[str] | None = None


def image(study_uid: str, number: int, version: int) -> Dataset:
    return dataset(study_uid, f"{study_uid}.9.{number}", SeriesDescription=f"version {version}")


def body(study_uid: str, number: int, version: int) -> bytes:
    return dataset_of(encoded(image(study_uid, number, version)))


def reference(ds: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    return item


def rules(models: Sequence[str]) -> tuple[Rule, ...]:
    """Every CT goes to these models."""
    ct = Condition.model_validate({"attribute": "Modality", "test": "equals", "values": ["CT"]})
    return tuple(Rule(name=m, models=(m,), when=(ct,)) for m in models)


class Node:
    """Every method is one step of one role."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.clock = Clock(patch)
        self.settings = Settings(
            data=folder, complete=Complete(quiet_s=QUIET_S), receive=Receive(disk_free_min_mb=0),
            destinations=(PACS, EHR), deliver=Deliver(retry_s=1.0, retry_max_s=4.0), rules=rules(MODELS),
            work=Work(attempts=2, retry_s=1.0, lost_after_s=30.0),
        )  # fmt: skip
        self.database = prepare(self.settings)
        self.store = Store(self.settings, self.database)
        self.outbox = Outbox(self.database, self.settings.data)
        self.pacs, self.ehr = Pacs(), Server()
        self.takes: dict[str, Callable[[Any], None]] = {"pacs": self.pacs.take, "ehr": self.ehr.take}
        self.breakers = {d.name: Breaker(d.name, self.database, lambda _: 1.0) for d in (PACS, EHR)}
        self.answers: list[str] = []
        self.meanwhile: Callable[[], None] | None = None
        self.runs: list[Run] = []
        self.dies_at: faults.Point | None = None
        for module in (pipeline, results, retract):
            patch.setattr(module, "crash_point", self.die)
        patch.setattr(deliver, "open_destination", lambda address, **_: Peer(self, address.name))

    def close(self) -> None:
        self.store.close()
        self.database.close()

    def die(self, point: faults.Point) -> None:
        if point == self.dies_at:
            self.dies_at = None
            raise DiedError

    def receive(self, study_uid: str, number: int, version: int) -> None:
        """An image is sent and acknowledged."""
        self.store.put(arrival_of(image(study_uid, number, version)), [body(study_uid, number, version)])

    def give_back(self, file: Path) -> None:
        """A PACS sends a result of the node to the node."""
        ds = dcmread(file)
        self.store.put(arrival_of(ds), [dataset_of(file)])

    def step(self, study_uid: str, numbers: Collection[int], status: str) -> None:
        """The scanner tells of its work: these images are of it."""
        ds, scheduled, series = Dataset(), Dataset(), Dataset()
        ds.PerformedProcedureStepStatus, scheduled.StudyInstanceUID = status, study_uid
        series.ReferencedImageSequence = [reference(image(study_uid, n, 0)) for n in sorted(numbers)]
        ds.ScheduledStepAttributesSequence, ds.PerformedSeriesSequence = [scheduled], [series]
        evidence.procedure_step(self.database, f"{study_uid}.7", ds, time.time())

    def let_go(self) -> None:
        """The images of all that is read are deleted here."""
        soon = self.settings.model_copy(update={"retention": Retention(delete=True, keep_days=1e-4)})
        retention.turn(self.database, soon, time.time())

    def settle(self) -> None:
        pipeline.settle(self.database, self.settings, since=0.0)

    def route(self, models: Sequence[str]) -> None:
        settings = self.settings.model_copy(update={"rules": rules(models)})
        pipeline.complete(self.database, WAIT_S)
        pipeline.route(self.database, settings, tuple(CARDS.values()))

    def claim(self, worker: str) -> Run | None:
        job = pipeline.claim(self.database, worker)
        if job is None:
            return None
        self.runs.append(Run(job=job))
        return self.runs[-1]

    def look(self, run: Run) -> None:
        """The model is given the images as they are now."""
        with self.database.reading() as session:
            files = complete.input_files(session, run.job.study_uid)
        run.images = frozenset(files)

    def done(self, run: Run, answer: int) -> JobState:
        """The model found each image, and said it in one of several ways."""
        self.runs.remove(run)
        stored = results.write_files(self.settings.data, made(run, answer))
        return pipeline.end(self.database, self.settings, run.job, stored)

    def end(self, run: Run, how: str) -> JobState:
        """It has no result."""
        self.runs.remove(run)
        if how == "failed":
            return jobs.try_again(self.database, run.job, self.settings, "it crashed", time.time())
        if how == "held":
            return pipeline.end_held(self.database, self.settings, run.job, ("it contradicts itself",), "held/1")
        return pipeline.end_declined(self.database, self.settings, run.job, DeclinedError("gate", "it does not suit"))

    def deliver(self, name: str, answers: Sequence[str], meanwhile: Callable[[], None] | None = None) -> bool:
        """One batch goes out. answers: of the peer, to one object after the other; then it takes everything.

        meanwhile: what happens elsewhere between the peer's first taking an object and the node's writing that down.
        """
        self.answers, self.meanwhile = list(answers), meanwhile
        address = next(d for d in self.settings.destinations if d.name == name)
        lane = deliver.Lane(self.settings, address, self.outbox, self.breakers[name])
        return lane.deliver_one()


@dataclass
class Peer:
    """A destination as `deliver` sees it."""

    node: Node
    name: str

    @contextmanager
    def open(self, _: object) -> Iterator["Peer"]:
        yield self

    def send(self, delivery: Any) -> str:
        answer = self.node.answers.pop(0) if self.node.answers else "taken"
        if answer == "away":
            raise DeliveryError("it does not answer")
        if answer == "never":
            raise DeliveryError("it refuses this object", permanent=True)
        if answer == "not taken" and delivery.kind == "seg" and delivery.uid not in self.node.pacs.objects:
            raise NotTakenError("objects of this class", delivery.sop_class_uid)
        self.node.takes[self.name](delivery)
        meanwhile, self.node.meanwhile = self.node.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        if answer == "taken, then away":
            raise DeliveryError("the connection broke before its answer")
        if answer == "taken, then died":
            raise DiedError
        return ""


def made(run: Run, answer: int) -> list[results.Result]:
    """The results of a run: an SR, a segmentation, and a report with a finding for each image."""
    job, said = run.job, what_is_said(answer, run.images or frozenset())
    digest = uid_from(("digest", said))
    owner = {"display": f"{job.study_uid} {job.model}"}
    texts = [("DiagnosticReport", "report", said), *(("Observation", f, f) for f in sorted(run.images or ()))]
    found = [entry(kind, (job.study_uid, job.model, name), text, owner) for kind, name, text in texts]
    uid = uid_from(("bundle", job.study_uid, job.model, said))
    body = {"resourceType": "Bundle", "type": "transaction", "identifier": identifier(uid), "entry": found}
    fhir = results.Result(
        kind="fhir", uid=uid, sop_class_uid="", series_uid="", digest=digest, body=json.dumps(body).encode()
    )
    dicom = [dicom_result(kind, job.study_uid, f"{job.model} {said}", digest) for kind in ("sr", "seg")]
    return [fhir, *dicom]


def entry(kind: str, name: tuple[str, ...], text: str, owner: dict[str, str]) -> dict[str, Any]:
    uid = uid_from((kind, *name))
    found = {**identifier(uid), "assigner": owner}
    resource = {
        "resourceType": kind, "status": "preliminary", "identifier": [found], "code": {"text": text},
        "meta": {"security": [AI_ASSERTED]},
    }  # fmt: skip
    return {
        "fullUrl": full_url(uid),
        "resource": resource,
        "request": {"method": "PUT", "url": f"{kind}?{query(found)}"},
    }


def what_is_said(answer: int, images: frozenset[str]) -> str:
    """Short, and another for other images or another answer."""
    return uid_from((str(answer), *sorted(images)))[-12:]
