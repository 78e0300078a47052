"""What people say on the pages: rulings on findings, remarks on studies. Every change is a POST and keeps what was before."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.orm import Session

from radnode import abnormalities, events, jobs, verdicts
from radnode.database import Database
from radnode.errors import as_sentence
from radnode.events import Action
from radnode.triage import Report
from radnode.verdicts import REMARK_LENGTH, Remark, Ruling, Verdict
from radnode.web import conflicts
from radnode.web.api import StudyUid
from radnode.web.conflicts import Conflict
from radnode.web.i18n import mark
from radnode.web.views import Render
from radnode.worklist import Reader

BUTTONS = {
    Ruling.ACCEPTED: mark("Accept"), Ruling.REJECTED: mark("Reject"), Ruling.EDITED: mark("Correct"),
    Ruling.UNDONE: mark("Undo"), Ruling.ADDED: mark("Correct"),
}  # fmt: skip
NOBODY = "somebody at this node's page"
Words = Annotated[str, Form(max_length=REMARK_LENGTH)]


@dataclass(frozen=True, kw_only=True)
class FindingRow:
    """A finding that a person can rule on, and the ruling that holds."""

    model: str
    tracking_uid: str
    said: str
    ruling: Verdict | None

    @property
    def seen(self) -> str:
        """What a form calls the ruling that its person sees."""
        return moment(self.ruling) if self.ruling else ""


def rows(reports: Sequence[Report], rulings: tuple[Verdict, ...]) -> tuple[FindingRow, ...]:
    """The findings of the reports that stand, those without a tracking UID left out: nothing could be said of them."""
    now = verdicts.standing(rulings)
    return tuple(
        FindingRow(
            model=report.model,
            tracking_uid=found.tracking_uid,
            said=abnormalities.describe(found),
            ruling=now.get((report.model, found.tracking_uid)),
        )
        for report in reports
        if not report.retracted
        for found in report.said.abnormalities
        if found.tracking_uid
    )


def ruling_pages(made: APIRouter, render: Render, database: Database, reader: Reader) -> None:
    @made.post("/studies/{study_uid}/rulings")
    def rule(
        request: Request,
        study_uid: StudyUid,
        model: Annotated[str, Form(max_length=64)],  # also another system's, whose name is no model's here
        tracking_uid: Annotated[str, Form(pattern=r"^[0-9.]{1,64}$")],
        ruling: Annotated[Ruling, Form()],
        comment: Words = "",
        seen: Annotated[str, Form(max_length=32)] = "",
    ) -> Response:
        """seen: when the ruling was made that the person saw; "" for none."""
        known = rows(reader.reports_of(study_uid), ())
        found = next((f for f in known if (f.model, f.tracking_uid) == (model, tracking_uid)), None)
        if found is None:
            raise HTTPException(409, mark("This finding does not stand any more: load the study again."))
        made = Verdict(
            study_uid=study_uid,
            model=model,
            tracking_uid=tracking_uid,
            said=found.said,
            ruling=ruling,
            comment=comment.strip(),
            who=person(request),
            at=time.time(),
        )
        try:
            with database.transaction() as session:
                jobs.lock_study(session, study_uid)
                other = overtaken(session, made, seen)
                if other is not None:
                    return conflicts.page(render, of_ruling(made, other))
                verdicts.rule(session, made)
                sentence = f"A finding of {model} was {ruling} on the page: {found.said}."
                events.write(session, study_uid, Action.RULED, sentence, made.at)
        except ValueError as e:
            raise HTTPException(422, as_sentence(e)) from e
        return RedirectResponse(f"/studies/{study_uid}#findings", status_code=303)

    @made.post("/studies/{study_uid}/remark")
    def remark(request: Request, study_uid: StudyUid, text: Words = "", seen: Words = "") -> Response:
        """seen: the remark that the person saw."""
        with database.transaction() as session:
            if jobs.lock_study(session, study_uid) is None:
                raise HTTPException(404, "The node never received this study.")
            stands = verdicts.newest_remark(session, study_uid)
            if not conflicts.same(stands.text, seen) and not conflicts.same(stands.text, text):
                return conflicts.page(render, of_remark(study_uid, stands, text))
            verdicts.remark(session, study_uid, text.strip(), person(request), time.time())
        return RedirectResponse(f"/studies/{study_uid}#remark", status_code=303)


def overtaken(session: Session, made: Verdict, seen: str) -> Verdict | None:
    """The ruling that holds of the same finding, where the person did not see it; None where the way is free."""
    now = verdicts.standing(verdicts.history(session, made.study_uid))
    holds = now.get((made.model, made.tracking_uid))
    unseen = holds is not None and seen != moment(holds) and (made.ruling is not Ruling.UNDONE or seen != "")
    return holds if unseen else None


def moment(ruling: Verdict) -> str:
    """What a form calls the ruling that its person saw."""
    return repr(ruling.at)


def of_ruling(made: Verdict, other: Verdict) -> Conflict:
    return Conflict(
        study_uid=made.study_uid,
        address=f"/studies/{made.study_uid}/rulings",
        who=other.who,
        at=other.at,
        theirs=f"{other.ruling}: {other.said}" + (f" – {other.comment}" if other.comment else ""),
        mine=made.comment,
        text_field="comment",
        length=REMARK_LENGTH,
        hidden={"model": made.model, "tracking_uid": made.tracking_uid, "seen": moment(other)},
        buttons=[("ruling", str(made.ruling), BUTTONS[made.ruling])],
    )


def of_remark(study_uid: str, stands: Remark, text: str) -> Conflict:
    return Conflict(
        study_uid=study_uid,
        address=f"/studies/{study_uid}/remark",
        who=stands.who,
        at=stands.at,
        theirs=stands.text,
        mine=text,
        text_field="text",
        length=REMARK_LENGTH,
        hidden={"seen": stands.text},
    )


def person(request: Request) -> str:
    """Who is at the page, as the log-in says; NOBODY where there is none."""
    return str(getattr(request.state, "person", "") or NOBODY)[:128]
