"""An urgent study whose report comes while somebody looks at the worklist, and a worklist of a thousand rows."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from support.findings import MODEL, findings, lesion, scene
from support.pages import serving
from support.results import Ended, add_job, add_study, prepare

from radnode import report
from radnode.database import Database
from radnode.results import Result
from radnode.settings import Settings
from radnode.worklist import Reader
from radnode_inference.findings import Code

EMBOLISM = Code(value="59282003", scheme="SCT", meaning="Pulmonary embolism")
REMARK_CELL = 'tr[data-key="1.2.9.5"] td:nth-child(13)'


@dataclass(frozen=True, kw_only=True)
class Urgent:
    """A study with an embolus and what a model makes of it."""

    study_uid: str
    objects: list[Result]

    @property
    def first_row(self) -> str:
        return f"tbody[data-filtered] tr:first-child[data-level=STAT][data-key='{self.study_uid}']"


def embolism(folder: Path) -> Urgent:
    made = scene(folder, seed=9, shape=(12, 96, 96))
    said = findings(made, (replace(lesion(made, "embolus-1", (5, 3, 2), 9.0), concept=EMBOLISM),))
    said = replace(said, model=replace(MODEL, name="ct-lung"))
    return Urgent(study_uid=said.study_uid, objects=list(report.results(said, made.study)))


def arrives(database: Database, urgent: Urgent) -> Ended:
    """Its images are here, its report is not."""
    now = time.time()
    add_study(
        database, urgent.study_uid, state="read", patient_name="URGENT^Case", patient_id="P77",
        study_description="CT pulmonary angiography", modalities="CT", first_instance_at=now, last_instance_at=now,
    )  # fmt: skip
    return add_job(database, urgent.study_uid, "ct-lung", state="done", progress=1.0)


@dataclass(frozen=True, kw_only=True)
class Thousand:
    """A node with 999 studies that were read, and the urgent one, whose report is not here yet."""

    settings: Settings
    database: Database
    url: str
    urgent: Urgent
    job: Ended


@contextmanager
def thousand(folder: Path) -> Iterator[Thousand]:
    settings = Settings(data=folder)
    database = prepare(settings)
    now = time.time()
    for i in range(999):
        add_study(
            database, f"1.2.9.{i}", state="read", patient_name=f"PATIENT^{i}", patient_id=f"M{i}",
            study_description="CT Chest", modalities="CT", first_instance_at=now - i, last_instance_at=now - i,
        )  # fmt: skip
    urgent = embolism(folder / "s")
    job = arrives(database, urgent)
    assert len(Reader.of(settings, database).worklist(now).entries) == 1000
    try:
        with serving(settings) as client:
            yield Thousand(settings=settings, database=database, url=str(client.base_url), urgent=urgent, job=job)
    finally:
        database.close()
