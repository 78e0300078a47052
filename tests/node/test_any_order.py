"""Whatever happens, and in whatever order: what was acknowledged is kept, and what stands in the end is what was found in all of it.

Each course of events is drawn from a seed, which a failure names with all its steps. RADNODE_FAULT_COURSES says how many are
drawn (`make faults`: 300), RADNODE_FAULT_SEED from which on.
"""

import os
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from sqlalchemy import select
from support.any_order import MODELS, DiedError, Node, Run, body, what_is_said
from support.objects import dataset_of

from radnode import jobs, pipeline, resend, second_look
from radnode.errors import LostClaimError, RefusedError
from radnode.faults import Point
from radnode.retract import by_person
from radnode.states import DeliveryState, JobState, StudyState
from radnode.tables import DeliveryRow, InstanceRow, JobRow, ResultRow, StudyRow

COURSES = int(os.environ.get("RADNODE_FAULT_COURSES", "10"))
SEED = int(os.environ.get("RADNODE_FAULT_SEED", "1"))
STEPS = 40
MEMORY = Path("/dev/shm")  # hundreds of commits a second, and no power cut to fear
STUDIES, IMAGES = ("1.2.3.1", "1.2.3.2"), range(4)
HOW = ("done", "done", "done", "declined", "failed", "held", "died")
NOTHING = (JobState.DECLINED, JobState.FAILED, JobState.HELD)
ANSWERS = ("taken", "away", "never", "not taken", "taken, then away", "taken, then died")
POINTS = (None, None, None, Point.INFERRED_BEFORE_OUTBOX, Point.SUPERSEDED, Point.RETRACTED)
STATUSES = ("IN PROGRESS", "COMPLETED", "DISCONTINUED")

pytestmark = pytest.mark.timeout(120 + 5 * COURSES)


class World:
    """What is around a node: senders, workers, destinations and people, each doing what it likes at any time."""

    def __init__(self, node: Node, chance: random.Random) -> None:
        self.node, self.chance = node, chance
        self.sent: dict[str, dict[int, list[int]]] = {s: {} for s in STUDIES}  # image -> its versions, the newest last
        self.named: dict[str, set[int]] = {}
        self.said: dict[tuple[str, str], tuple[str, frozenset[str]] | None] = {}
        self.models: tuple[str, ...] = MODELS
        self.told: list[str] = []

    def step(self) -> None:
        """One of them does something. What matters most is done most often."""
        often: Mapping[Callable[[], None], int] = {
            self.a_study_goes_its_way: 4, self.deliver: 4, self.receive: 2, self.end: 2, self.take_back: 2,
            self.turn: 2, self.wait: 2, self.all_is_delivered: 1, self.run_again: 1, self.send_again: 1,
            self.a_scanner_tells: 1, self.a_result_comes_back: 1, self.recover: 1, self.let_go: 1,
            self.the_rules_change: 1, self.claim: 1,
        }  # fmt: skip
        (does,) = self.chance.choices(tuple(often), tuple(often.values()))
        self.tell(does.__name__)
        does()

    def tell(self, *what: object) -> None:
        self.told.append(" ".join(map(str, what)))

    def any_study(self) -> str:
        return self.chance.choice(STUDIES)

    # senders

    def receive(self, study_uid: str = "", image: int | None = None) -> None:
        study_uid = study_uid or self.any_study()
        image = self.chance.choice(IMAGES) if image is None else image
        self.send(study_uid, image, self.chance.randrange(2))

    def send(self, study_uid: str, image: int, version: int) -> None:
        self.tell("  image", study_uid, image, "version", version)
        self.node.receive(study_uid, image, version)
        versions = self.sent[study_uid].setdefault(image, [])
        versions[:] = [*(v for v in versions if v != version), version]  # what was sent last counts

    def a_scanner_tells(self) -> None:
        study_uid, status = self.any_study(), self.chance.choice(STATUSES)
        named = {self.chance.choice(IMAGES) for _ in range(self.chance.randrange(3))}
        self.tell("  step", study_uid, status, named)
        self.node.step(study_uid, named, status)
        self.named.setdefault(study_uid, set()).update(named)

    def a_result_comes_back(self) -> None:
        if self.node.pacs.objects:
            self.node.give_back(self.node.pacs.objects[self.chance.choice(sorted(self.node.pacs.objects))])

    # the scheduler

    def wait(self, seconds: float = 0.0) -> None:
        self.node.clock.now += seconds or self.chance.choice((1.0, 11.0, 40.0))

    def turn(self) -> None:
        self.node.settle()
        self.node.route(self.models)

    def recover(self) -> None:
        pipeline.recover(self.node.database, self.node.settings)
        second_look.amend(self.node.database, self.node.clock.now)

    def let_go(self) -> None:
        self.node.let_go()

    def the_rules_change(self) -> None:
        self.models = tuple(m for m in MODELS if self.chance.random() < 0.7)
        self.tell(" ", *self.models)

    # workers

    def claim(self) -> None:
        self.node.claim(self.chance.choice("ab"))

    def end(self) -> None:
        """A run that is in somebody's hands, or due."""
        run = self.chance.choice(self.node.runs) if self.node.runs else self.node.claim("c")
        if run is not None:
            self.read(run)

    def a_study_goes_its_way(self) -> None:
        self.receive()
        self.node.settle()
        self.wait(11.0)
        self.turn()
        while run := self.node.claim("d"):
            self.read(run)

    def read(self, run: Run) -> None:
        """A model reads, something happens meanwhile, and it ends in some way."""
        if run.images is None:
            self.node.look(run)
        meanwhile: tuple[Callable[[], Any], ...] = (
            lambda: self.receive(run.job.study_uid, 3), lambda: self.take_back(run.job.study_uid), self.turn,
            self.not_heard_of, self.deliver,
        )  # fmt: skip
        if self.chance.random() < 0.3:
            self.chance.choice(meanwhile)()
        self.end_run(run, self.chance.choice(HOW), self.chance.randrange(2), self.chance.choice(POINTS))

    def not_heard_of(self) -> None:
        self.wait(40.0)
        self.recover()

    def end_run(self, run: Run, how: str, answer: int, dies_at: Point | None = None) -> None:
        self.tell("  run of", run.job.model, "on", run.job.study_uid, how, answer, dies_at or "")
        if run not in self.node.runs:  # it was ended meanwhile
            return
        of_run, self.node.dies_at = (run.job.study_uid, run.job.model), dies_at
        try:
            if how == "done" and self.node.done(run, answer) is JobState.DONE:
                images = run.images or frozenset()
                assert {self.bytes_of(file) for file in images} == self.newest(run.job.study_uid), "a part was reported"
                self.said[of_run] = what_is_said(answer, images), images
            elif how in ("declined", "failed", "held") and self.node.end(run, how) in NOTHING:
                self.said[of_run] = None
        except (LostClaimError, DiedError):
            self.tell("  it is lost")
        self.node.dies_at = None
        self.node.runs = [r for r in self.node.runs if r is not run]

    def bytes_of(self, file: str) -> bytes:
        return dataset_of(self.node.settings.data / file)

    def newest(self, study_uid: str) -> set[bytes]:
        return {body(study_uid, image, versions[-1]) for image, versions in self.sent[study_uid].items()}

    # delivery

    def deliver(self) -> None:
        name, answers = self.chance.choice(("pacs", "ehr")), self.chance.choices(ANSWERS, k=self.chance.randrange(4))
        runs = self.node.runs
        meanwhile: tuple[Callable[[], Any], ...] = (
            lambda: self.node.deliver(name, ()), self.take_back, self.run_again, self.turn,
            *((lambda: self.end_run(runs[0], self.chance.choice(HOW), 1),) if runs and runs[0].images else ()),
        )  # fmt: skip
        self.tell("  to", name, answers)
        with suppress(DiedError):
            self.node.deliver(name, answers, self.chance.choice(meanwhile) if self.chance.random() < 0.4 else None)

    def all_is_delivered(self) -> None:
        for name in ("pacs", "ehr"):
            while self.node.deliver(name, ()):
                pass

    # people

    def take_back(self, study_uid: str = "") -> None:
        study_uid, model = study_uid or self.any_study(), self.chance.choice(("", *MODELS))
        self.tell("  taken back:", study_uid, model)
        with suppress(RefusedError):
            by_person(self.node.database, self.node.settings, study_uid, model, "quality", "", self.node.clock.read())
            self.said.update({(study_uid, name): None for name in MODELS if model in ("", name)})

    def run_again(self) -> None:
        with suppress(RefusedError):
            jobs.rerun(self.node.database, self.any_study(), "", self.node.clock.read())

    def send_again(self, *names: str) -> None:
        """What was given up."""
        states = (DeliveryState.DEAD, DeliveryState.NOT_TAKEN)
        with self.node.database.reading() as session:
            query = select(DeliveryRow.id).where(DeliveryRow.state.in_(states)).order_by(DeliveryRow.id)
            given_up = session.scalars(query).all()
        for delivery in given_up:
            resend.send_again(self.node.database, self.node.settings, delivery, self.node.clock.read())

    # the end

    def come_to_rest(self) -> None:
        """The rest is sent, nothing fails any more, and everything that is open is done."""
        self.tell("the end")
        self.node.runs.clear()
        for study_uid, named in self.named.items():
            for image in sorted(named - self.sent[study_uid].keys()):
                self.send(study_uid, image, 0)
            self.node.step(study_uid, (), "COMPLETED")
        self.send_what_was_let_go()
        for _ in range(6):
            self.wait(60.0)
            self.turn()
            self.recover()
            while run := self.node.claim("z"):
                self.node.look(run)
                self.end_run(run, "done", 0)
            self.send_again()
            self.all_is_delivered()

    def send_what_was_let_go(self) -> None:
        with self.node.database.reading() as session:
            gone = set(session.scalars(select(InstanceRow.study_uid).where(InstanceRow.gone_at.is_not(None))))
        for study_uid in gone:
            for image, versions in self.sent[study_uid].items():
                self.send(study_uid, image, versions[-1])

    def check(self) -> None:
        with self.node.database.reading() as session:
            assert not session.scalars(select(InstanceRow.id).where(~InstanceRow.settled)).all()
            assert set(session.execute(select(StudyRow.state, StudyRow.provisional))) <= {(StudyState.READ, "")}
            assert not session.scalars(select(JobRow.id).where(JobRow.state.in_(jobs.OPEN))).all()
            open_ = (DeliveryState.OWED, DeliveryState.DEAD, DeliveryState.NOT_TAKEN)
            query = select(ResultRow.kind, DeliveryRow.state).join(ResultRow, ResultRow.uid == DeliveryRow.result_uid)
            assert not session.execute(query.where(DeliveryRow.state.in_(open_), ResultRow.current)).all()
        for study_uid in (s for s in STUDIES if self.sent[s]):
            self.check_images(study_uid)
            for model in MODELS:
                self.check_results(study_uid, model)

    def check_images(self, study_uid: str) -> None:
        """Every version of every acknowledged image is on the disk, unless it was let go; the newest is there in any case."""
        with self.node.database.reading() as session:
            images = InstanceRow.sop_uid.startswith(f"{study_uid}.9.")  # not results of the node that came back
            rows = session.scalars(select(InstanceRow).where(InstanceRow.study_uid == study_uid, images)).all()
        assert all(not row.current for row in rows if row.gone_at is not None)
        kept = [self.bytes_of(row.file) for row in rows if row.gone_at is None]
        versions = [body(study_uid, n, v) for n, versions in self.sent[study_uid].items() for v in versions]
        assert len(rows) == len(versions) and sum(v not in kept for v in versions) == len(rows) - len(kept)
        assert self.newest(study_uid) <= set(kept)

    def check_results(self, study_uid: str, model: str) -> None:
        """What others have of a model is what it said last of the whole study, or nothing."""
        with self.node.database.reading() as session:
            revision = session.get_one(StudyRow, study_uid).revision
            of_it = (JobRow.study_uid == study_uid, JobRow.model == model, JobRow.revision == revision)
            state = session.scalar(select(JobRow.state).where(*of_it))
            query = select(ResultRow).where(ResultRow.study_uid == study_uid, ResultRow.model == model)
            rows = session.scalars(query.where(ResultRow.kind.in_(("sr", "seg")))).all()
        said = self.said.get((study_uid, model)) if state == JobState.DONE else None
        at_pacs = {r.uid for r in rows} & self.node.pacs.objects.keys()
        current = {r.uid for r in rows if r.current}
        assert len(current) == (2 if said else 0)
        assert current <= at_pacs if said else not at_pacs
        assert self.node.ehr.standing(study_uid, model) == ({said[0], *said[1]} if said else set())


@contextmanager
def a_node() -> Iterator[Node]:
    with TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder, pytest.MonkeyPatch.context() as patch:
        node = Node(Path(folder) / "data", patch)
        yield node
        node.close()


def test_whatever_happens_in_whatever_order_what_stands_is_what_was_found_in_all_that_was_sent() -> None:
    for seed in range(SEED, SEED + COURSES):
        with a_node() as node:
            world = World(node, random.Random(seed))
            try:
                for _ in range(STEPS):
                    world.step()
                world.come_to_rest()
                world.check()
            except Exception as e:
                e.add_note(f"RADNODE_FAULT_SEED={seed}, step by step:\n" + "\n".join(world.told))
                raise
