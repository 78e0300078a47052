"""The text of each report on the study's page: a person edits it, saves it, takes the draft again, or confirms it."""

import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from radnode import confirmations, verdicts
from radnode.confirmations import Confirmation
from radnode.database import Database
from radnode.errors import RefusedError
from radnode.narrative import cases as narrative_cases
from radnode.narrative import narratives
from radnode.narrative import page as narrative_page
from radnode.narrative.narratives import TEXT_LENGTH, Narrative, Step
from radnode.narrative.page import ReportText
from radnode.narrative.words import Language
from radnode.settings import Settings
from radnode.tables import ReportRow, StudyRow
from radnode.verdicts import Ruling
from radnode.web import conflicts
from radnode.web.api import StudyUid
from radnode.web.conflicts import Conflict
from radnode.web.i18n import mark
from radnode.web.life import Model
from radnode.web.rulings import NOBODY, person
from radnode.web.views import Render
from radnode_fhir.confirm import CONFIRMED

CHANGED = mark(
    "The report, or what was said of its findings, changed meanwhile. Your text is kept as a draft: read it again."
)
NO_NAME = mark("Nobody stands for a report without a name: give yours. Your text is kept as a draft.")
EMPTY = mark("A report without a text cannot be kept.")
NOT_NOW = mark(
    "The report cannot be confirmed now: images of the study are still arriving, models still read it, or it was retracted. "
    "While the report stands, your text is kept as a draft."
)
OTHERS = mark("Somebody wrote another text meanwhile: read it before you take the draft again.")
NOT_DONE = mark("Not done")


class Deed(StrEnum):
    SAVE = "save"
    RESET = "reset"
    CONFIRM = "confirm"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a person asks for. token, version: of the report and the text that the person saw. who: "" where nobody is known."""

    study_uid: str
    model: str
    token: str
    version: str
    action: Deed
    language: Language
    text: str
    who: str


def text_pages(made: APIRouter, render: Render, settings: Settings, database: Database) -> None:
    def refused(study_uid: str, status: int, sentence: str) -> Response:
        back = f"/studies/{study_uid}#texts"
        return render("refused.html", NOT_DONE, "studies", status, what=sentence, back=back, over=False)

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
        version: Annotated[str, Form(pattern=r"^[0-9a-f]{0,32}$")] = "",
    ) -> Response:
        account = person(request)
        who = account if account != NOBODY else cleaned(name).replace("\n", " ")
        said = cleaned(text)
        if action is not Deed.RESET and not said:
            return refused(study_uid, 422, EMPTY)
        asked = Asked(
            study_uid=study_uid, model=model, token=token, version=version, action=action, language=language,
            text=said, who=who,
        )  # fmt: skip
        try:
            with database.transaction() as session:
                session.get(StudyRow, study_uid, with_for_update=True)  # nothing changes between the look and the deed
                seen = shown(session, settings, asked)
                if seen.person is not None and seen.version != version and seen.text != said:
                    return (
                        refused(study_uid, 409, OTHERS)
                        if action is Deed.RESET
                        else conflicts.page(render, both(asked, seen))
                    )
                problem = done(session, settings, asked, seen)
        except RefusedError:
            return refused(study_uid, 409, NOT_NOW)
        if problem:
            return refused(study_uid, 422 if problem == NO_NAME else 409, problem)
        return RedirectResponse(f"/studies/{study_uid}#texts", status_code=303)


def both(asked: Asked, seen: ReportText) -> Conflict:
    """A text that somebody saved or confirmed, and the one that came after it from who had not seen it."""
    assert seen.person is not None
    fields = {"model": asked.model, "token": seen.token, "version": seen.version, "language": asked.language}
    return Conflict(
        study_uid=asked.study_uid,
        address=f"/studies/{asked.study_uid}/text",
        who=seen.person.who,
        at=seen.person.at,
        theirs=seen.text,
        mine=asked.text,
        text_field="text",
        length=TEXT_LENGTH,
        hidden=fields | {"name": asked.who},
        buttons=[("action", Deed.CONFIRM, conflicts.CONFIRM), ("action", Deed.SAVE, conflicts.SAVE_DRAFT)],
    )


def done(session: Session, settings: Settings, asked: Asked, seen: ReportText) -> str:
    """Do what a person asked for; why a text could not be confirmed, which is then kept as a draft. seen: as it stands."""
    step, text, problem = Step.RESET if asked.action is Deed.RESET else Step.SAVED, asked.text, ""
    if asked.action is Deed.CONFIRM:
        problem = NO_NAME if not asked.who else CHANGED if seen.token != asked.token else ""
    if asked.action is Deed.CONFIRM and not problem:
        try:
            step, text = Step.CONFIRMED, confirm(session, settings, seen, asked)
        except RefusedError:
            problem = NOT_NOW
    kept = Narrative(
        study_uid=asked.study_uid, model=asked.model, digest=seen.told.digest, step=step, language=asked.language,
        who=asked.who or NOBODY, at=time.time(), text="" if step is Step.RESET else text,
        statements=narrative_cases.cases(seen.told, text, asked.language) if step is Step.CONFIRMED else (),
    )  # fmt: skip
    narratives.add(session, kept)
    return problem


def shown(session: Session, settings: Settings, asked: Asked) -> ReportText:
    """The text as it stands now. Raises RefusedError."""
    there = narrative_page.texts(session, settings.data, asked.study_uid, settings.narrative.language)
    found = next((t for t in there if t.model == asked.model), None)
    if found is None:
        raise RefusedError("the report does not stand any more")
    return found


def confirm(session: Session, settings: Settings, seen: ReportText, asked: Asked) -> str:
    """The confirmed text. Raises RefusedError before anything is written."""
    of_it = (ReportRow.study_uid == asked.study_uid, ReportRow.model == asked.model)
    row = session.scalars(select(ReportRow).where(*of_it)).one()
    said = [v for v in verdicts.history(session, asked.study_uid) if v.model == asked.model]
    standing = list(verdicts.standing(tuple(said)).values())
    there = {v.tracking_uid for v in standing}
    made = Confirmation(
        person=asked.who,
        text=asked.text,
        language=asked.language,
        rulings=standing,
        undone=[v for v in said if v.ruling is Ruling.ADDED and v.tracking_uid not in there],
        again=row.status in CONFIRMED or seen.unconfirmed is not None,
        now=time.time(),
    )
    return confirmations.confirm(session, settings, row, made)


def cleaned(text: str) -> str:
    """Lines as people write them: one kind of line end, no characters that nobody sees."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(c for c in lines if c == "\n" or c.isprintable()).strip()
