"""The peers: who may send and be asked, tests of them, their history, callers turned away, and where results go."""

import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Form, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import TypeAdapter, ValidationError

from radnode import addresses, breaker, capabilities, outbox, profiles, resend, tls
from radnode.database import Database
from radnode.peers import changes as peer_changes
from radnode.peers import table as peers
from radnode.peers import ties as peer_ties
from radnode.peers.examine import examine
from radnode.peers.peer import PROFILE, REFERENCES, RIGHTS, WAYS, Peer
from radnode.settings import AeTitle, Settings
from radnode.settings import Peer as PeerSetting
from radnode.settings_peers import what_is_wrong
from radnode.tables import PeerRow
from radnode.web.fhir import who
from radnode.web.i18n import mark
from radnode.web.views import Render

FIELDS = (
    "name",
    "ae_title",
    "address",
    "host",
    "port",
    "quiet_s",
    "url",
    "user",
    "password",
    "token",
    "certificate_name",
    "old",
)
EMPTY: dict[str, Any] = dict.fromkeys(FIELDS, "") | {
    "may": ("send",),
    "way": "move",
    "tls": False,
    "profile": (),
    "asks": "",
}
Text = Annotated[str, Form(max_length=1024)]
N = TypeVar("N", int, float)
NO_PEER, NO_PACS = mark("There is no peer of this name."), mark("There is no PACS of this name among the destinations.")
OF_SETTINGS = mark("This peer stands in the settings file: change it there.")
NOTHING_DEAD = mark("Nothing that is current was given up there.")
ALL_OVERTAKEN = mark("What was given up there takes back what stands there anew: it is withdrawn.")


def peer_pages(made: APIRouter, render: Render, settings: Settings, database: Database) -> None:
    def page(status: int = 200, problem: str = "", form: dict[str, Any] | None = None, **values: Any) -> HTMLResponse:
        known = peers.list_peers(database)
        with database.reading() as session:
            there = addresses.destinations(session, settings)
            answers = capabilities.known(session, there)
            hangs = {
                p.name: peer_ties.hangs_on(session, settings, p, time.time()) for p in known if not p.from_settings
            }
            astray = addresses.astray(session, settings)
            changes, counts, outages = peer_changes.history(session), outbox.counts(session), breaker.outages(session)
        targets = [(d, profiles.plan(d, answers.get(d.name)), answers.get(d.name)) for d in there]
        refused = peers.list_refusals(database)
        turned_away = [(r, "" if r.reason == peers.NO_SEAT else free_name(r.calling_ae, known)) for r in refused]
        nothing = {"tested": "", "steps": (), "saved": ""}
        return render(
            "peers.html", "Peers", "peers", status, peers=known, refusals=turned_away, problem=problem,
            destinations=targets, changes=changes, counts=counts, nothing_owed=outbox.Count(), outages=outages,
            rights=RIGHTS, kinds=PROFILE, ways=WAYS, own=(settings.receive.ae_title, *settings.receive.also_called),
            form=EMPTY | (form or {}), warnings=(*tls.warnings(settings), *peers.unheard(settings, known), *peer_ties.wide(known), *astray), hangs=hangs, **(nothing | values),
        )  # fmt: skip

    @made.get("/peers")
    def list_peers(edit: str = "", saved: Annotated[str, Query(max_length=64)] = "") -> HTMLResponse:
        """saved: the peer that was just added or edited, which is said."""
        there = any(p.name == saved for p in peers.list_peers(database))
        found = next((p for p in peers.list_peers(database) if p.name == edit and not p.from_settings), None)
        return page(form=None if found is None else filled(found), saved=saved if there else "")

    @made.post("/peers")
    def save(
        request: Request,
        name: Text = "",
        ae_title: Text = "",
        address: Text = "",
        host: Text = "",
        port: Text = "",
        quiet_s: Text = "",
        may: Annotated[list[str] | None, Form()] = None,
        profile: Annotated[list[str] | None, Form()] = None,
        way: Text = "move",
        url: Text = "",
        user: Text = "",
        password: Text = "",
        token: Text = "",
        tls: Annotated[bool, Form()] = False,
        certificate_name: Text = "",
        old: Text = "",
        chosen: Annotated[bool, Form()] = False,
        sure: Annotated[bool, Form()] = False,
    ) -> Response:
        """Add a peer, or put it in the place of `old`. In force at once. chosen: what it may is in the form, also nothing.

        sure: what is owed to one that gets no results any more may be withdrawn; without it, that is asked first.
        """
        form = {
            "name": name, "ae_title": ae_title, "address": address, "host": host, "port": port, "quiet_s": quiet_s,
            "may": tuple(may or (() if chosen else ("send",))), "profile": tuple(profile or ()),
            "way": way, "url": url, "user": user,
            "password": password, "token": token, "tls": tls, "certificate_name": certificate_name, "old": old,
        }  # fmt: skip
        wanted, problem = read(database, form)
        if wanted is None:
            return page(422, problem, form | hidden(form))
        if why := addresses.clash(wanted, settings.destinations):
            return page(422, why, form)
        with database.reading() as session:
            before = session.get(PeerRow, old or wanted.name)
            asks = "" if before is None else peer_ties.ends(session, peers.from_row(before), wanted)
        if asks and not sure:
            return page(
                409, f"Nothing is changed yet. With this {asks} Say so below, and save again.", form | {"asks": asks}
            )
        with database.transaction() as session:
            if old and old != wanted.name:
                peers.drop(session, old, who(request))
            peers.put(session, wanted, who(request))
        return RedirectResponse(f"/peers?saved={wanted.name}", status_code=303)

    @made.post("/peers/test")
    def test(name: Text = "") -> HTMLResponse:
        """Call a peer: every step with its sentence."""
        found = next((p for p in peers.list_peers(database) if p.name == name), None)
        if found is None:
            raise HTTPException(404, NO_PEER)
        return page(tested=name, steps=tuple(examine(found, settings)))

    @made.post("/peers/remove")
    def remove(request: Request, name: Text = "") -> Response:
        found = next((p for p in peers.list_peers(database) if p.name == name), None)
        if found is None:
            raise HTTPException(404, NO_PEER)
        if found.from_settings:
            raise HTTPException(409, OF_SETTINGS)
        peers.remove_peer(database, name, who=who(request))
        return RedirectResponse("/peers", status_code=303)

    @made.post("/destinations/probe")
    def probe(name: Text = "") -> Response:
        with database.reading() as session:
            there = addresses.destinations(session, settings)
        found = next((d for d in there if d.name == name and d.kind == "dimse"), None)
        if found is None:
            raise HTTPException(404, NO_PACS)
        capabilities.ask(database, settings, found, time.time())
        return RedirectResponse("/peers#destinations", status_code=303)

    @made.post("/destinations/send-again")
    def send_again(name: Text = "") -> Response:
        """Everything that was given up there is owed once more."""
        outcomes = resend.send_all_again(database, settings, name, time.time())
        if "" not in outcomes:
            raise HTTPException(409, ALL_OVERTAKEN if outcomes else NOTHING_DEAD)
        return RedirectResponse("/peers#destinations", status_code=303)


def hidden(form: dict[str, Any]) -> dict[str, Any]:
    """A password that was typed where only its place belongs is not sent back, nor one in an address."""
    secret = {k: "" for k in ("password", "token") if not form[k].startswith(REFERENCES)}
    return secret | ({"url": ""} if "@" in form["url"] else {})


def filled(peer: Peer) -> dict[str, Any]:
    """The form with what a peer is now."""
    shown = {k: "" if v is None else v for k, v in vars(peer).items() if k in EMPTY}
    quiet = "" if peer.quiet_s is None else f"{peer.quiet_s:g}"
    return shown | {"old": peer.name, "quiet_s": quiet}


def free_name(ae_title: str, known: Sequence[Peer]) -> str:
    """A name for a new peer of this AE title that no other has."""
    name = "".join(c if c.isascii() and c.isalnum() else "-" for c in ae_title).strip("-").lower() or "peer"
    taken = {p.name for p in known}
    return next(n for n in (name, *(f"{name}-{i}" for i in range(2, len(taken) + 3))) if n not in taken)


def number(what: str, text: str, kind: Callable[[str], N]) -> N | None:
    """The number that was typed, None where nothing was. Raises ValueError."""
    try:
        return kind(text) if text else None
    except ValueError as e:
        raise ValueError(f"the {what} is a number, not “{text[:64]}”") from e


def read(database: Database, form: dict[str, Any]) -> tuple[Peer | None, str]:
    """The peer that these fields make, or why they make none, in one sentence. The settings file has the same rules."""
    plain = {k: v.strip() if isinstance(v, str) else v for k, v in form.items()}
    try:
        if plain["ae_title"]:
            TypeAdapter(AeTitle).validate_python(plain["ae_title"])
        given = {k: v for k, v in plain.items() if k not in ("old", "port", "quiet_s")}
        wanted = PeerSetting(
            port=number("port", plain["port"], int),
            quiet_s=number("quiet time", plain["quiet_s"], float),
            **given,
        )
        peer = Peer(**wanted.model_dump())
    except ValidationError as e:
        return None, what_is_wrong(e)
    except ValueError as e:
        return None, f"This is no peer: {e}."
    there = next((p for p in peers.list_peers(database) if p.name == peer.name), None)
    if there is not None and there.from_settings:
        return None, f"{peer.name} stands in the settings file: change it there."
    before = next((p for p in peers.list_peers(database) if p.name == plain["old"]), None)
    if before is not None and before.from_settings:
        return None, f"{before.name} stands in the settings file: change it there."
    if there is not None and plain["old"] != peer.name:
        return None, f"There is a peer {peer.name} already: edit it, or choose another name."
    return peer, ""
