"""What the pages show, as JSON. Described by OpenAPI at /openapi.json."""

import time
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query
from fastapi import Path as PathParameter

from radnode import studies
from radnode.database import Database
from radnode.worklist import Reader, Worklist

StudyUid = Annotated[str, PathParameter(pattern=r"^[0-9.]{1,64}$")]
MOST = 2**31 - 1
"""The largest number of a row, as PostgreSQL counts them."""
Number = Annotated[int, PathParameter(ge=0, le=MOST)]


def router(database: Database, reader: Reader) -> APIRouter:
    made = APIRouter(tags=["api"])

    @made.get("/worklist")
    def worklist() -> Worklist:
        """Every recent study in the order to read it, with the reason for its place."""
        return reader.worklist(time.time())

    @made.get("/studies")
    def all_studies(limit: Annotated[int, Query(ge=1, le=5000)] = 500) -> list[studies.StudySummary]:
        """The studies, the one with the newest image first."""
        with database.reading() as session:
            return list(studies.studies(session, limit=limit))

    @made.get("/studies/{study_uid}")
    def one_study(study_uid: StudyUid) -> dict[str, Any]:
        """Everything that happened to a study and why; `worklist` is its row there, null when it is not recent."""
        with database.reading() as session:
            story = studies.story(session, study_uid)
        if story is None:
            raise HTTPException(404, "The node never received this study.")
        return {**vars(story), "worklist": reader.entry(study_uid, time.time())}

    return made
