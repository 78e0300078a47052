"""The rules: tried on a stored study, and a draft replayed over the last days. Nothing is run and nothing is changed."""

import time
from typing import Annotated, Any

from fastapi import APIRouter, Form
from fastapi.responses import HTMLResponse

from radnode import rules_try, weights_use
from radnode.database import Database
from radnode.errors import RefusedError
from radnode.settings import Settings
from radnode.web.api import StudyUid
from radnode.web.views import Render

SHOWN = 500
DAYS = 30.0


def rules_pages(made: APIRouter, render: Render, settings: Settings, database: Database) -> None:
    def page(status: int = 200, **values: Any) -> HTMLResponse:
        known = {"draft": "", "days": DAYS, "problem": "", "replayed": None, "tried": None, "study_uid": ""}
        return render("rules.html", "Rules", "rules", status, shown=SHOWN, **(known | values))

    @made.get("/rules")
    def rules() -> HTMLResponse:
        return page()

    @made.get("/studies/{study_uid}/rules")
    def tried(study_uid: StudyUid) -> HTMLResponse:
        """What the rules of now decide about a study; what was decided then stands on its page."""
        return attempt(study_uid, "")

    @made.post("/rules/try")
    def try_draft(
        study_uid: Annotated[str, Form(pattern=r"^[0-9.]{1,64}$")], draft: Annotated[str, Form()] = ""
    ) -> HTMLResponse:
        return attempt(study_uid, draft)

    def attempt(study_uid: str, draft: str) -> HTMLResponse:
        cards = weights_use.live_cards(database, settings)
        try:
            wanted = rules_try.draft(draft) if draft.strip() else settings.rules
            found = rules_try.try_rules(database, settings, cards, study_uid, wanted)
        except RefusedError as e:
            return page(422, draft=draft, problem=str(e), study_uid=study_uid)
        return page(draft=draft, tried=found, study_uid=study_uid)

    @made.post("/rules/replay")
    def replay(draft: Annotated[str, Form()], days: Annotated[float, Form(gt=0, le=366)] = DAYS) -> HTMLResponse:
        cards = weights_use.live_cards(database, settings)
        try:
            wanted = rules_try.draft(draft)
            found = rules_try.replay(database, settings, cards, wanted, time.time() - days * 86400)
        except RefusedError as e:
            return page(422, draft=draft, days=days, problem=str(e))
        return page(draft=draft, days=days, replayed=found)
