"""What other systems have: what the node never saw, a study fetched by hand, and the fetches."""

import time
from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from radnode import fetches, reconcile
from radnode.database import Database
from radnode.errors import DeliveryError, RefusedError
from radnode.peers.table import list_peers
from radnode.settings import Settings
from radnode.store_check import is_uid
from radnode.tables_pacs import UnseenRow
from radnode.web.fhir import who
from radnode.web.i18n import mark
from radnode.web.views import Render

Text = Annotated[str, Form(max_length=1024)]
NO_PEER = mark("There is no peer of this name that may be queried.")
NOT_LACKING = mark("The node does not lack this study any more: load the page again.")
NAME_ONE = mark("Name the study by its UID or by its accession number.")
NO_UID = mark("This is no Study Instance UID: it has up to 64 digits and dots.")


def fetch_pages(made: APIRouter, render: Render, settings: Settings, database: Database) -> None:
    def page(status: int = 200, problem: str = "") -> HTMLResponse:
        known = list_peers(database)
        with database.reading() as session:
            lacking, asked, fetched = reconcile.unseen(session), reconcile.asked(session), fetches.latest(session)
        queried = [p for p in known if "query" in p.may]
        silent = any(p.name not in asked or asked[p.name].error for p in queried)
        return render(
            "reconcile.html", "Reconciliation", "reconcile", status, problem=problem, unseen=lacking, asked=asked,
            fetches=fetched, sources=reconcile.sources(known), queried=queried, silent=silent,
            days=settings.reconcile.days, every_h=settings.reconcile.every_h,
        )  # fmt: skip

    @made.get("/reconcile")
    def reconciliation() -> HTMLResponse:
        return page()

    @made.post("/reconcile")
    def ask(peer: Text = "", days: Annotated[int, Form(ge=1, le=366)] = 2) -> Response:
        """Ask a peer what it has of the last days."""
        found = next((p for p in list_peers(database) if p.name == peer and "query" in p.may), None)
        if found is None:
            raise HTTPException(404, NO_PEER)
        try:
            reconcile.ask(database, settings, found, days, time.time())
        except DeliveryError as e:
            return page(502, f"{peer} cannot be asked: {e}.")
        return RedirectResponse("/reconcile", status_code=303)

    @made.post("/reconcile/fetch")
    def fetch_missed(request: Request, study_uid: Text = "", peer: Text = "") -> Response:
        """Fetch a study that the node never saw."""
        with database.transaction() as session:
            if session.get(UnseenRow, (study_uid, peer)) is None:
                raise HTTPException(409, NOT_LACKING)
            fetches.want(session, study_uid, peer, fetches.RECONCILE, who(request), time.time(), again=True)
        return RedirectResponse("/reconcile#fetches", status_code=303)

    @made.post("/fetch")
    def fetch_one(
        request: Request,
        study_uid: Text = "",
        accession_number: Annotated[str, Form(max_length=64)] = "",
    ) -> Response:
        """Fetch a study that a person names, by its UID or accession number."""
        study_uid, accession_number = study_uid.strip(), accession_number.strip()
        if bool(study_uid) == bool(accession_number):
            return page(422, NAME_ONE)
        if study_uid and not is_uid(study_uid):
            return page(422, NO_UID)
        asked = reconcile.sources(list_peers(database))
        try:
            found, peer = reconcile.find(settings, asked, study_uid=study_uid, accession_number=accession_number)
        except RefusedError as e:
            return page(422, str(e))
        with database.transaction() as session:
            fetches.want(session, found.study_uid, peer.name, fetches.HAND, who(request), time.time(), again=True)
        return RedirectResponse("/reconcile#fetches", status_code=303)
