"""The policy and its history on a page, and the priority that a person sets on a study."""

import time
from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from radnode import policies, policy_shadow, priorities
from radnode.database import Database
from radnode.errors import RefusedError, as_sentence
from radnode.fhir_server import unplaced as fhir_unplaced
from radnode.priorities import MAX_COMMENT
from radnode.settings import Settings
from radnode.triage import Level
from radnode.web.api import StudyUid
from radnode.web.views import Render
from radnode.worklist import Reader

Words = Annotated[str, Form(max_length=MAX_COMMENT)]


def triage_pages(made: APIRouter, render: Render, settings: Settings, database: Database, reader: Reader) -> None:
    @made.get("/triage")
    def policy() -> HTMLResponse:
        with database.reading() as session:
            steps = policies.history(session)
            shadow = policy_shadow.comparison(session, settings.triage_shadow)
            unplaced, nowhere = fhir_unplaced.newest(session, time.time()), fhir_unplaced.count(session, time.time())
        return render(
            "triage.html", "Triage", "triage",
            policy=reader.policy, ageing=reader.ageing, limits=reader.limits, classes=reader.classes, history=steps, past=reader.worklist(time.time()).past,
            shadow=shadow, levels=list(Level), unplaced=unplaced, nowhere=nowhere,
        )  # fmt: skip

    @made.post("/worklist/{study_uid}/priority")
    def set_priority(
        request: Request, study_uid: StudyUid, level: Annotated[Level, Form()], comment: Words = ""
    ) -> Response:
        stands = reader.without_person(study_uid)
        if stands is None:
            raise HTTPException(404, "The node never received this study.")
        try:
            who = str(getattr(request.state, "person", ""))
            priorities.set_level(database, study_uid, level, comment, time.time(), stands=stands, who=who)
        except RefusedError as e:
            raise HTTPException(409, as_sentence(e)) from e
        return RedirectResponse(f"/studies/{study_uid}", status_code=303)

    @made.post("/worklist/{study_uid}/priority/undo")
    def undo_priority(request: Request, study_uid: StudyUid, comment: Words = "") -> Response:
        try:
            who = str(getattr(request.state, "person", ""))
            priorities.undo(database, study_uid, time.time(), comment=comment, who=who)
        except RefusedError as e:
            raise HTTPException(409, as_sentence(e)) from e
        return RedirectResponse(f"/studies/{study_uid}", status_code=303)
