"""The text of each report on the study's page: a person edits it, saves it, takes the draft again, or confirms it."""

import time
from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from radnode import confirmations, narrative_cases, narrative_page, narratives, verdicts
from radnode.confirmations import Confirmation
from radnode.database import Database
from radnode.errors import RefusedError
from radnode.narrative_page import ReportText
from radnode.narrative_words import Language
from radnode.narratives import TEXT_LENGTH, Narrative, Step
from radnode.settings import Settings
from radnode.tables import ReportRow
from radnode.verdicts import Ruling
from radnode.web.api import StudyUid
from radnode.web.i18n import mark
from radnode.web.life import Model
from radnode.web.rulings import NOBODY, person
from radnode.web.views import Render
from radnode_fhir.confirm import CONFIRMED

CHANGED = mark(
    "The report, or what was said of its findings, changed meanwhile. Your text is kept as a draft: read it again."
)
NO_NAME = mark("Nobody stands for a report without a name: give yours.")
EMPTY = mark("A report without a text cannot be kept.")
NOT_NOW = mark(
    "The report cannot be confirmed now: images of the study are still arriving, models still read it, or it was retracted."
)
NOT_DONE = mark("Not done")


class Deed(StrEnum):
    SAVE = "save"
    RESET = "reset"
    CONFIRM = "confirm"


def text_pages(made: APIRouter, render: Render, settings: Settings, database: Database) -> None:
    def refused(status: int, sentence: str) -> Response:
        return render("missing.html", NOT_DONE, "studies", status, what=sentence)

    @made.post("/studies/{study_uid}/text")
    def text(
        request: Request,
        study_uid: StudyUid,
        model: Model,
        token: Annotated[str, Form(pattern=r"^[0-9a-f]{32}$")],
        action: Annotated[Deed, Form()],
        language: Annotated[Language, Form()],
        text: Annotated[str, Form(max_length=TEXT_LENGTH)] = "",
        name: Annotated[str, Form(max_length=64)] = "",
    ) -> Response:
        account = person(request)
        who = account if account != NOBODY else cleaned(name).replace("\n", " ")
        said = cleaned(text)
        if action is not Deed.RESET and not said:
            return refused(422, EMPTY)
        if action is Deed.CONFIRM and not who:
            return refused(422, NO_NAME)
        try:
            with database.transaction() as session:
                seen = shown(session, settings, study_uid, model)
                stale = seen.token != token
                step = Step.RESET if action is Deed.RESET else Step.SAVED
                if action is Deed.CONFIRM and not stale:
                    step, said = Step.CONFIRMED, confirm(session, settings, study_uid, seen, who, said, language)
                kept = Narrative(
                    study_uid=study_uid, model=model, digest=seen.told.digest, step=step, language=language,
                    who=who or NOBODY, at=time.time(), text="" if step is Step.RESET else said,
                    statements=narrative_cases.cases(seen.told, said, language) if step is Step.CONFIRMED else (),
                )  # fmt: skip
                narratives.add(session, kept)
        except RefusedError:
            return refused(409, NOT_NOW)
        if action is Deed.CONFIRM and stale:
            return refused(409, CHANGED)
        return RedirectResponse(f"/studies/{study_uid}#texts", status_code=303)


def shown(session: Session, settings: Settings, study_uid: str, model: str) -> ReportText:
    """The text as it stands now. Raises RefusedError."""
    there = narrative_page.texts(session, settings.data, study_uid, settings.narrative.language)
    found = next((t for t in there if t.model == model), None)
    if found is None:
        raise RefusedError("the report does not stand any more")
    return found


def confirm(
    session: Session, settings: Settings, study_uid: str, seen: ReportText, who: str, said: str, language: Language
) -> str:
    row = session.scalars(
        select(ReportRow).where(ReportRow.study_uid == study_uid, ReportRow.model == seen.model)
    ).one()
    said_of_it = [v for v in verdicts.history(session, study_uid) if v.model == seen.model]
    mine = list(verdicts.standing(tuple(said_of_it)).values())
    there = {v.tracking_uid for v in mine}
    undone = [v for v in said_of_it if v.ruling is Ruling.ADDED and v.tracking_uid not in there]
    again = row.status in CONFIRMED or seen.unconfirmed is not None
    made = Confirmation(
        person=who, text=said, language=language, rulings=mine, undone=undone, again=again, now=time.time()
    )
    return confirmations.confirm(session, settings, row, made)


def cleaned(text: str) -> str:
    """Lines as people write them: one kind of line end, no characters that nobody sees."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(c for c in lines if c == "\n" or c.isprintable()).strip()
