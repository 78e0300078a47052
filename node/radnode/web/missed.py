"""A finding that a person makes and a model had not: recorded beside the rulings, for what may stand for its sensitivity."""

import time
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from radnode import events, verdicts
from radnode.database import Database
from radnode.errors import as_sentence
from radnode.events import Action
from radnode.tables import ReportRow
from radnode.verdicts import REMARK_LENGTH, Ruling, Verdict
from radnode.web.api import StudyUid
from radnode.web.i18n import mark
from radnode.web.life import Model
from radnode.web.rulings import person
from radnode_inference.findings import uid_from

WORDS = (mark("added"),)
"""Translated as they come."""


def reporting(session: Session, study_uid: str) -> tuple[str, ...]:
    """The models that reported on a study: only of them can be said that they missed something."""
    query = select(ReportRow.model).where(ReportRow.study_uid == study_uid).order_by(ReportRow.model)
    return tuple(session.scalars(query))


def added(said: tuple[Verdict, ...]) -> list[Verdict]:
    """Those that stand, of everything that was said of a study's findings."""
    return [v for v in verdicts.standing(said).values() if v.ruling is Ruling.ADDED]


def missed_pages(made: APIRouter, database: Database) -> None:
    @made.post("/studies/{study_uid}/missed")
    def missed(
        request: Request,
        study_uid: StudyUid,
        model: Model,
        comment: Annotated[str, Form(max_length=REMARK_LENGTH)] = "",
    ) -> Response:
        now, said = time.time(), comment.strip()
        with database.transaction() as session:
            if model not in reporting(session, study_uid):
                raise HTTPException(409, mark("This model reported nothing of this study."))
            ruling = Verdict(
                study_uid=study_uid,
                model=model,
                tracking_uid=uid_from(("added", study_uid, model, said, f"{now}")),
                said=said,
                ruling=Ruling.ADDED,
                comment=said,
                who=person(request),
                at=now,
            )
            try:
                verdicts.rule(session, ruling)
            except ValueError as e:
                raise HTTPException(422, as_sentence(e)) from e
            events.write(
                session, study_uid, Action.RULED, f"A finding that {model} had not made was added on the page.", now
            )
        return RedirectResponse(f"/studies/{study_uid}#missed", status_code=303)

    @made.post("/studies/{study_uid}/missed/undo")
    def undo(request: Request, study_uid: StudyUid, tracking_uid: Annotated[str, Form(max_length=64)]) -> Response:
        now = time.time()
        with database.transaction() as session:
            standing = verdicts.standing(verdicts.history(session, study_uid)).values()
            found = next((v for v in standing if v.tracking_uid == tracking_uid and v.ruling is Ruling.ADDED), None)
            if found is None:
                raise HTTPException(409, mark("This finding was taken back already."))
            verdicts.rule(session, replace(found, ruling=Ruling.UNDONE, comment="", who=person(request), at=now))
            sentence = f"A finding that {found.model} had not made was taken back on the page."
            events.write(session, study_uid, Action.RULED, sentence, now)
        return RedirectResponse(f"/studies/{study_uid}#missed", status_code=303)
