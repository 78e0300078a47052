"""The day at a real node: images by C-STORE, orders by HL7, reports of others by FHIR, the page by HTTP, readers who take its top row."""

import heapq
import re
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hl7.client import MLLPClient
from support.day import NEVER, Case, Plan, Said, in_order, place
from support.node_process import TestNode

from radnode.demo.node import NodeProcess
from radnode.demo.send import Image, send

ROW = re.compile(r'<tr class="level-(\w+)" data-key="([0-9.]+)".*?name="revision" value="(\d+)"', re.DOTALL)
FHIR = {"Content-Type": "application/fhir+json"}
SAMPLE_S = 1.0  # the page is looked at this often when nobody takes a study
STEPS = 40
PROBABILITIES = {"111047", "111012"}  # DCM: probability of cancer, certainty of finding
LEVELS = ("STAT", "HIGH", "ROUTINE")
TRIES = 20


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the page."""

    level: str
    study_uid: str
    revision: int


@dataclass(kw_only=True)
class Day:
    """cases: everybody who comes. looked, rows_compared: how many pages and rows of them were compared with the policy."""

    plan: Plan
    node: NodeProcess
    cases: list[Case]
    looked: int = 0
    rows_compared: int = 0
    came_back: int = 0  # studies that later images brought back to the list
    gaps_s: list[float] = field(
        default_factory=list
    )  # real seconds from a reader's asking until this program had looked at the page
    _began: float = 0.0
    _due: list[tuple[float, int, str]] = field(default_factory=list)
    _free: list[float] = field(default_factory=list)
    _sent: dict[str, tuple[Case, float, Future[list[Image]]]] = field(default_factory=dict)  # not yet on the page
    _looked_at: float = 0.0
    _own_reports: int = 0  # as many as the node's own endpoint counts
    _modalities: ThreadPoolExecutor = field(init=False)

    def run(self) -> None:
        """From the first arrival until everything is read."""
        self._began = time.time()
        self._due = [(c.at, c.number, "arrive") for c in self.cases]
        self._due += [(c.raised_at, c.number, "raise") for c in self.cases if c.raised_at < NEVER]
        heapq.heapify(self._due)
        self._free = [0.0] * self.plan.readers
        with ThreadPoolExecutor(2) as modalities:
            self._modalities = modalities
            while self._due or any(c.when("taken") == NEVER for c in self.cases):
                if not self._act() and not self._read():
                    time.sleep(0.005)
        self.look()

    def now(self) -> float:
        """Simulated seconds since the start."""
        return (time.time() - self._began) * self.plan.scale

    def _act(self) -> bool:
        """Do the next thing that is due."""
        if not self._due or self._due[0][0] > self.now():
            return False
        _, number, what = heapq.heappop(self._due)
        does = {
            "arrive": self._arrive,
            "report": self._report,
            "amend": self._amend,
            "raise": self._raise,
            "end": self._end,
        }
        does[what](self.cases[number])
        return True

    def _later(self, at: float, case: Case, what: str) -> None:
        heapq.heappush(self._due, (at, case.number, what))

    def _arrive(self, case: Case) -> None:
        if case.emergency:
            order(self.node, case)
        port = self.node.receive_port
        self._sent[case.uid] = case, time.time(), self._modalities.submit(list, send(case.files, port))

    def _arrived(self, shown: Collection[str]) -> None:
        """Take down the node's time of arrival of the studies that are on the page for the first time."""
        new = [uid for uid in self._sent if uid in shown]
        if not new:
            return
        listed = {s["study_uid"]: s for s in self.node.http.get("/api/studies", params={"limit": 5000}).json()}
        for uid in new:
            case, began, _ = self._sent.pop(uid)
            case.happened["arrived"] = listed[uid]["first_instance_at"]
            assert began <= case.happened["arrived"] <= time.time(), "the time of arrival is not that of the sending"
            for at, what in ((case.reported_at, "report"), (case.amended_at, "amend")):
                if at < NEVER:
                    self._later(at, case, what)

    def _came_back(self, by_uid: Mapping[str, Case], rows: Sequence[Row]) -> None:
        """A study whose last images came after it was read is to be read again: that takes no time here."""
        for row in rows:
            case = by_uid[row.study_uid]
            if row.revision > case.revision and "read" in case.happened:
                del case.happened["read"]
                self.came_back += 1
                self._later(self.now(), case, "end")
            case.revision = row.revision

    def _report(self, case: Case) -> None:
        post(self.node, case, "preliminary", case.said)
        case.happened["reported"] = time.time()

    def _amend(self, case: Case) -> None:
        """The other system takes its finding back: by an amended report without it, or by withdrawing the report."""
        post(self.node, case, "amended" if case.number % 2 else "entered-in-error", ())
        case.happened["amended"] = time.time()

    def _raise(self, case: Case) -> None:
        if case.when("taken") < NEVER or case.when("arrived") == NEVER:
            return
        form = {"level": "STAT", "comment": "the ward called"}
        answer = self.node.http.post(f"/worklist/{case.uid}/priority", data=form)
        assert answer.status_code == 303, answer.text
        case.happened["raised"] = time.time()

    def _end(self, case: Case) -> None:
        answer = self.node.http.post(f"/worklist/{case.uid}/read", data={"revision": case.revision})
        if answer.status_code == 409:  # images came since: the page is looked at again first
            self.look()
            self._later(self.now(), case, "end")
            return
        assert answer.status_code == 303, f"{answer.status_code}: {answer.text}"
        case.happened["read"] = time.time()

    def _read(self) -> bool:
        """A free reader takes the top row that nobody has taken; otherwise the page is looked at now and then."""
        reader = min(range(self.plan.readers), key=lambda r: self._free[r])
        waiting = [c.when("arrived") for c in self.cases if c.when("arrived") < NEVER and c.when("taken") == NEVER]
        wanted = bool(waiting) and self._free[reader] <= self.now()
        if not wanted and time.time() - self._looked_at < SAMPLE_S:
            return False
        case = next((c for c in self.look() if c.when("taken") == NEVER), None)
        if wanted and case is not None:
            case.happened["taken"] = time.time()
            ready = max(self._began + self._free[reader] / self.plan.scale, min(waiting))
            case.happened["free"] = ready
            self.gaps_s.append(case.happened["taken"] - ready)
            # what this program takes to look at the page is no part of a reader's day: the reading began when it asked
            self._free[reader] = (ready - self._began) * self.plan.scale + case.reading_s
            self._later(self._free[reader], case, "end")
        return True

    def look(self) -> list[Case]:
        """The cases in the order of the page, which is compared with the policy as it is looked at."""
        by_uid = {c.uid: c for c in self.cases}
        for _ in range(TRIES):
            self._ask_models()
            before = time.time()
            rows = page(self.node)
            self._looked_at = time.time()
            self._arrived({row.study_uid for row in rows})
            self._came_back(by_uid, rows)
            if not self._ask_models():  # else it is not known whether the page knew of that report already
                self._compare(rows, before, self._looked_at)
                for _, _, sending in [*self._sent.values()]:
                    if sending.done():
                        sending.result()  # raises what went wrong there
                return [by_uid[row.study_uid] for row in rows]
        raise AssertionError(f"reports came {TRIES} times while the page was made")

    def _compare(self, rows: Sequence[Row], before: float, after: float) -> None:
        """The page was made at some moment between the two: at one of them it must show what the policy says."""
        shown = [(row.level, row.study_uid) for row in rows]
        expected: list[tuple[str, str]] = []
        steps = max(STEPS, int((after - before) * STEPS * 5))  # a machine that stood still meanwhile: as fine as ever
        for step in range(steps + 1):
            expected = self.expected(before + (after - before) * step / steps)
            if expected == shown:
                self.looked += 1
                self.rows_compared += len(shown)
                return
        first = next((i for i, (a, b) in enumerate(zip(shown, expected, strict=False)) if a != b), 0)
        raise AssertionError(
            f"row {first + 1} of {len(shown)} (the policy has {len(expected)} rows): the page has {shown[first : first + 3]}, "
            f"the policy {expected[first : first + 3]}"
        )

    def expected(self, now: float) -> list[tuple[str, str]]:
        """Level and study of everything that is not read, by the policy."""
        return [(LEVELS[place(c, now, self.plan)[0]], c.uid) for c in in_order(self.cases, now, self.plan)]

    def _ask_models(self) -> bool:
        """Whether the node's own model reported something new, by what its FHIR endpoint says."""
        there = self.node.http.get("/fhir/DiagnosticReport", params={"_security": "AIAST", "_summary": "count"}).json()
        if there["total"] == self._own_reports:
            return False
        self._own_reports, new = there["total"], False
        for case in self.cases:
            if not case.own or case.when("arrived") == NEVER or case.when("reported") < NEVER:
                continue
            found = reported(self.node, case.uid)
            if found is not None:
                case.said, case.happened["reported"], new = found, time.time(), True
        return new


def page(node: NodeProcess) -> list[Row]:
    """The worklist as its page shows it, from the top."""
    answer = node.http.get("/")
    answer.raise_for_status()
    return [Row(level=m[1], study_uid=m[2], revision=int(m[3])) for m in ROW.finditer(answer.text)]


def reported(node: NodeProcess, study_uid: str) -> tuple[Said, ...] | None:
    """The abnormal findings of the report of a study at `/fhir`; None while there is none."""
    query = {"study": study_uid, "_include": "DiagnosticReport:result"}
    entries = node.http.get("/fhir/DiagnosticReport", params=query).json().get("entry", [])
    resources = [e["resource"] for e in entries]
    if not any(r["resourceType"] == "DiagnosticReport" for r in resources):
        return None
    return tuple(said(r) for r in resources if r["resourceType"] == "Observation" and r.get("interpretation"))


def said(observation: dict[str, Any]) -> Said:
    """An abnormal Observation of the node, with the probability of the finding where it gives one."""
    percents = [
        part["valueQuantity"]["value"]
        for part in observation.get("component", [])
        if PROBABILITIES & {c["code"] for c in part["code"]["coding"]}
    ]
    return Said(
        code=observation["valueCodeableConcept"]["coding"][0]["code"], percent=percents[0] if percents else None
    )


def order(node: NodeProcess, case: Case) -> None:
    """An HL7 order of an emergency patient, before the images."""
    at = time.strftime("%Y%m%d%H%M%S", time.gmtime())
    message = (
        f"MSH|^~\\&|RIS|HOSP|RADNODE||{at}||ORM^O01|M{case.number}|P|2.3.1\rPID|1||{case.patient_id}||X^Y\rPV1|1|E\r"
        f"ORC|NW|{case.number}\rOBR|1|{case.number}||CT^CT^L||||||||||||||{case.accession}\r"
    )
    port = int((node.data / "run" / "hl7.port").read_text())
    with MLLPClient("127.0.0.1", port) as client:
        answer = client.send(b"\x0b" + message.encode() + b"\x1c\r")
    assert b"MSA|AA" in answer, answer


def post(node: NodeProcess, case: Case, status: str, findings: Sequence[Said]) -> None:
    """The report of another vendor's AI, as one transaction; the same addresses each time."""
    entries = list(resources_of(case, status, findings))
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    answer = node.http.post("/fhir", json=bundle, headers=FHIR)
    assert answer.status_code == 200, answer.text


def resources_of(case: Case, status: str, findings: Sequence[Said]) -> Iterator[dict[str, Any]]:
    seen = [f"urn:uuid:seen-{n}" for n in range(len(findings))]
    report = {
        "resourceType": "DiagnosticReport", "identifier": [{"system": "urn:vendor", "value": case.accession}],
        "status": status, "code": {"text": "AI"}, "issued": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "basedOn": [{"type": "ServiceRequest", "identifier": {"value": case.accession}}],
        "subject": {"type": "Patient", "identifier": {"value": case.patient_id}},
    }  # fmt: skip
    if seen:
        report["result"] = [{"reference": address} for address in seen]
    yield entry("urn:uuid:report", report, f"DiagnosticReport?identifier=urn:vendor|{case.accession}")
    for address, found in zip(seen, findings, strict=True):
        score = {"code": {"coding": [{"system": "http://dicom.nema.org/resources/ontology/DCM", "code": "111012"}]},
                 "valueQuantity": {"value": found.percent, "code": "%", "system": "http://unitsofmeasure.org"}}  # fmt: skip
        number = f"{case.accession}-{address[-1]}"
        observation = {
            "resourceType": "Observation", "identifier": [{"system": "urn:vendor", "value": number}], "status": status,
            "code": {"coding": [{"system": "http://snomed.info/sct", "code": found.code}]}, "component": [score],
            "interpretation": [{"coding": [{"code": "POS"}]}],
        }  # fmt: skip
        yield entry(address, observation, f"Observation?identifier=urn:vendor|{number}")


def entry(address: str, resource: dict[str, Any], url: str) -> dict[str, Any]:
    return {"fullUrl": address, "resource": resource, "request": {"method": "PUT", "url": url}}


def node_for(plan: Plan, folder: Path) -> TestNode:
    """A node with the limits of the plan, in which one model reads breast MR."""
    rule = {"name": "breast", "models": ["mr-breast-kinetics"], "when": [{"attribute": "Modality", "values": ["MR"]}]}
    return TestNode(folder, quiet_s=1.0, rules=[rule], ageing=plan.settings(), hl7={"port": 0})
