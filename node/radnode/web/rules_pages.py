"""The rules: tried on a stored study, and a draft replayed over the last days. Nothing is run and nothing is changed."""

import math
import time
from typing import Annotated, Any

from fastapi import APIRouter, Form
from fastapi.responses import HTMLResponse

from radnode import rules_try, weights_use
from radnode.database import Database
from radnode.errors import RefusedError
from radnode.settings import Settings
from radnode.tables import StudyRow
from radnode.web.api import StudyUid
from radnode.web.i18n import mark
from radnode.web.views import Render, date

SHOWN = 500
DAYS, LONGEST_DAYS = 30.0, 366.0
Text = Annotated[str, Form(max_length=1024)]
WRONG_DAYS = mark("The days are a number above 0 and up to 366.")


def rules_pages(made: APIRouter, render: Render, settings: Settings, database: Database) -> None:
    def page(status: int = 200, **values: Any) -> HTMLResponse:
        known = {
            "draft": "",
            "days": f"{DAYS:g}",
            "problem": "",
            "replayed": None,
            "tried": None,
            "study_uid": "",
            "what": "",
        }
        return render("rules.html", "Rules", "rules", status, shown=SHOWN, **(known | values))

    @made.get("/rules")
    def rules() -> HTMLResponse:
        return page()

    @made.get("/studies/{study_uid}/rules")
    def tried(study_uid: StudyUid) -> HTMLResponse:
        """What the rules of now decide about a study; what was decided then stands on its page."""
        return attempt(study_uid, "")

    @made.post("/rules/try")
    def try_draft(study_uid: Text = "", draft: Annotated[str, Form()] = "", days: Text = "") -> HTMLResponse:
        return attempt(study_uid.strip(), draft, days)

    def attempt(study_uid: str, draft: str, days: str = "") -> HTMLResponse:
        typed: dict[str, Any] = {"draft": draft, "study_uid": study_uid, "days": days or f"{DAYS:g}"}
        cards = weights_use.live_cards(database, settings)
        try:
            wanted = rules_try.draft(draft) if draft.strip() else settings.rules
            found = rules_try.try_rules(database, settings, cards, study_uid, wanted)
        except RefusedError as e:
            return page(422, problem=str(e), **typed)
        with database.reading() as session:
            study = session.get_one(StudyRow, study_uid)
            what = f"{study.study_description} {date(study.study_date)}" if study.study_description else study_uid
        return page(tried=found, what=what, **typed)

    @made.post("/rules/replay")
    def replay(draft: Annotated[str, Form()] = "", days: Text = "", study_uid: Text = "") -> HTMLResponse:
        typed: dict[str, Any] = {"draft": draft, "study_uid": study_uid, "days": days or f"{DAYS:g}"}
        span = number_of(typed["days"])
        if not 0 < span <= LONGEST_DAYS:
            return page(422, problem=WRONG_DAYS, **typed)
        cards = weights_use.live_cards(database, settings)
        try:
            wanted = rules_try.draft(draft)
            found = rules_try.replay(database, settings, cards, wanted, time.time() - span * 86400)
        except RefusedError as e:
            return page(422, problem=str(e), **typed)
        return page(replayed=found, **typed)


def number_of(text: str) -> float:
    """The number that was typed, NaN where it is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan
