"""Marking a study as read, on the worklist and on its own page."""

import time
from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import RedirectResponse, Response

from radnode import readings
from radnode.database import Database
from radnode.errors import RefusedError, as_sentence
from radnode.web.api import MOST, StudyUid
from radnode.web.rulings import person


def reading_pages(made: APIRouter, database: Database) -> None:
    @made.post("/worklist/{study_uid}/read")
    def mark(request: Request, study_uid: StudyUid, revision: Annotated[int, Form(ge=1, le=MOST)]) -> Response:
        try:
            readings.mark(database, study_uid, revision, person(request), time.time())
        except RefusedError as e:
            raise HTTPException(409, as_sentence(e)) from e
        return RedirectResponse(f"/?read={study_uid}", status_code=303)

    @made.post("/worklist/{study_uid}/read/undo")
    def take_back(request: Request, study_uid: StudyUid) -> Response:
        try:
            readings.take_back(database, study_uid, person(request), time.time())
        except RefusedError as e:
            raise HTTPException(409, as_sentence(e)) from e
        return RedirectResponse(f"/studies/{study_uid}", status_code=303)
