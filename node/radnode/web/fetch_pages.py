"""What other systems have: what the node never saw, a study fetched by hand, and the fetches."""

import time
from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from radnode import fetches, reconcile
from radnode.database import Database
from radnode.errors import DeliveryError, RefusedError
from radnode.peers import list_peers
from radnode.settings import Settings
from radnode.web.fhir import who
from radnode.web.views import Render

Uid = Annotated[str, Form(pattern=r"^[0-9.]{1,64}$")]


def fetch_pages(made: APIRouter, render: Render, settings: Settings, database: Database) -> None:
    def page(status: int = 200, problem: str = "") -> HTMLResponse:
        known = list_peers(database)
        with database.reading() as session:
            lacking, asked, fetched = reconcile.unseen(session), reconcile.asked(session), fetches.latest(session)
        return render(
            "reconcile.html", "Reconciliation", "reconcile", status, problem=problem, unseen=lacking, asked=asked,
            fetches=fetched, sources=reconcile.sources(known), queried=[p for p in known if "query" in p.may],
            days=settings.reconcile.days, every_h=settings.reconcile.every_h,
        )  # fmt: skip

    @made.get("/reconcile")
    def reconciliation() -> HTMLResponse:
        return page()

    @made.post("/reconcile")
    def ask(peer: Annotated[str, Form()], days: Annotated[int, Form(ge=1, le=366)] = 2) -> Response:
        """Ask a peer what it has of the last days."""
        found = next((p for p in list_peers(database) if p.name == peer and "query" in p.may), None)
        if found is None:
            raise HTTPException(404, "There is no peer of this name that may be queried.")
        try:
            reconcile.ask(database, settings, found, days, time.time())
        except DeliveryError as e:
            return page(502, f"{peer} cannot be asked: {e}.")
        return RedirectResponse("/reconcile", status_code=303)

    @made.post("/reconcile/fetch")
    def fetch_missed(request: Request, study_uid: Uid, peer: Annotated[str, Form()]) -> Response:
        """Fetch a study that the node never saw."""
        with database.transaction() as session:
            fetches.want(session, study_uid, peer, fetches.RECONCILE, who(request), time.time(), again=True)
        return RedirectResponse("/reconcile#fetches", status_code=303)

    @made.post("/fetch")
    def fetch_one(
        request: Request,
        study_uid: Annotated[str, Form(pattern=r"^[0-9.]{0,64}$")] = "",
        accession_number: Annotated[str, Form(max_length=64)] = "",
    ) -> Response:
        """Fetch a study that a person names, by its UID or accession number."""
        if bool(study_uid) == bool(accession_number.strip()):
            return page(422, "Name the study by its UID or by its accession number.")
        asked = reconcile.sources(list_peers(database))
        try:
            found, peer = reconcile.find(
                settings, asked, study_uid=study_uid, accession_number=accession_number.strip()
            )
        except RefusedError as e:
            return page(422, str(e))
        with database.transaction() as session:
            fetches.want(session, found.study_uid, peer.name, fetches.HAND, who(request), time.time(), again=True)
        return RedirectResponse("/reconcile#fetches", status_code=303)
