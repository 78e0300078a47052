"""What a person decides about a study's results: run a model again, retract what it said. Every change is a POST."""

import time
from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi import Path as PathParameter
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response

from radnode import jobs, studies
from radnode.database import Database
from radnode.errors import RefusedError, as_sentence
from radnode.retract import REASONS, by_person
from radnode.settings import Settings
from radnode.studies import Story
from radnode.tables import JobRow
from radnode.web.api import Number, StudyUid
from radnode.web.i18n import mark
from radnode.web.views import Render

Model = Annotated[str, Form(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


def life_pages(made: APIRouter, render: Render, settings: Settings, database: Database) -> None:
    @made.post("/studies/{study_uid}/rerun")
    def rerun(study_uid: StudyUid, model: Model) -> Response:
        try:
            jobs.rerun(database, study_uid, model, time.time())
        except RefusedError as e:
            raise HTTPException(409, as_sentence(e)) from e
        return back(study_uid)

    @made.get("/studies/{study_uid}/retract")
    def confirm(study_uid: StudyUid, model: str) -> HTMLResponse:
        """The question before it is done."""
        return question(study_uid, model)

    @made.post("/studies/{study_uid}/retract")
    def retract(
        study_uid: StudyUid,
        model: Model,
        reason: Annotated[str, Form()] = "",
        comment: Annotated[str, Form(max_length=500)] = "",
        confirmed: Annotated[str, Form()] = "",
    ) -> Response:
        if reason not in REASONS or confirmed != "yes":
            return question(study_uid, model, 422, mark("Choose a reason and confirm."))
        try:
            by_person(database, settings, study_uid, model, reason, comment, time.time())
        except RefusedError as e:
            raise HTTPException(409, as_sentence(e)) from e
        return back(study_uid)

    @made.get("/held/{job_id}/{name}")
    def held_file(
        request: Request, job_id: Number, name: Annotated[str, PathParameter(pattern=r"^[a-z-]+-[0-9.]+\.(dcm|json)$")]
    ) -> FileResponse:
        with database.reading() as session:
            job = session.get(JobRow, job_id)
        path = settings.data / job.held / name if job is not None and job.held else None
        if path is None or not path.is_file():
            raise HTTPException(404, mark("There is no such withheld object."))
        request.state.study_uid = job.study_uid if job is not None else ""  # for the audit
        return FileResponse(path, media_type="application/octet-stream", filename=name)

    def question(study_uid: str, model: str, status: int = 200, problem: str = "") -> HTMLResponse:
        with database.reading() as session:
            story = studies.story(session, study_uid)
        if story is None or model not in {r.model for r in story.results}:
            return render("missing.html", "Not here", "studies", 404, what="There is no result to retract.")
        standing = [r for r in story.results if r.current and r.model == model]
        values = {"study": story.study, "model": model, "standing": standing, "reasons": REASONS, "problem": problem}
        return render("retract.html", "Retract", "studies", status, **values)


def withheld(settings: Settings, story: Story) -> list[tuple[int, str, list[str]]]:
    """The job, the model and the files of every result of this study that is withheld."""
    found = []
    for job in story.jobs:
        if job.held:
            found.append((job.id, job.model, sorted(f.name for f in (settings.data / job.held).glob("*.*"))))
    return found


def back(study_uid: str) -> Response:
    return RedirectResponse(f"/studies/{study_uid}", status_code=303)
