"""`radnode check`: every setting, disk, database, peer, destination, model and device tested; one answer each."""

import os
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
from sqlalchemy.exc import DBAPIError

from radnode import addresses, check_access, migrations, start, tls, weights_use
from radnode import settings as settings_module
from radnode.check_access import Answer
from radnode.database import Database
from radnode.destinations import fhir_rest_auth
from radnode.errors import DeliveryError, SettingsError
from radnode.peers import steps as peer_steps
from radnode.peers import steps_web as peer_steps_web
from radnode.peers import table as peers
from radnode.peers.peer import WEB, Peer
from radnode.settings import Destination, Settings
from radnode.settings_environment import misspelt
from radnode_inference import registry
from radnode_inference.model import Availability, ModelCard

TIMEOUT_S = 5.0
MB = 1_000_000


def everything(*, files: bool = False) -> Iterator[Answer]:
    """Every test, the quick and local ones first; it stops early only where nothing else could be tested.

    files: also every stored object, however many there are.
    """
    try:
        settings = settings_module.load()
    except SettingsError as e:
        yield Answer(what="settings", ok=False, sentence=f"{e.sentence} {e.hint}")
        return
    file = settings_module.settings_file()
    yield Answer(what="settings", ok=True, sentence=f"read from {file}" if file else "defaults and the environment")
    for sentence in misspelt(settings, os.environ):
        yield Answer(what="environment", ok=False, sentence=sentence)
    yield data(settings)
    found = database(settings)
    yield found
    if found.ok:
        yield from all_peers(settings)
        if files:
            yield stored_files(settings)
    for destination in settings.destinations:
        yield reach(destination, settings)
    yield from certificates(settings)
    yield from check_access.answers(settings)
    yield from models(settings)
    yield device(settings)


def data(settings: Settings) -> Answer:
    what = "data folder"
    try:
        start.make_data_folder(settings)
    except SettingsError as e:
        return Answer(what=what, ok=False, sentence=e.sentence)
    if not os.access(settings.data, os.W_OK):
        return Answer(what=what, ok=False, sentence=f"{settings.data} cannot be written")
    free = shutil.disk_usage(settings.data).free // MB
    least = settings.receive.disk_free_min_mb
    sentence = f"{settings.data} has {free} MB free; below {least} MB objects are refused"
    return Answer(what=what, ok=free >= least, sentence=sentence)


def stored_files(settings: Settings) -> Answer:
    """Every stored object against its row; what lacks its row gets it. Only on request: it takes long."""
    from radnode.store import Store
    from radnode.store_recover import recover

    store = Store(settings, Database(settings.url))
    try:
        found = recover(store, store.database, everything=True)
    finally:
        store.close()
    wrong = [*found.missing, *found.damaged]
    named = f", the first {wrong[0]}" if wrong else ""
    sentence = f"{len(found.missing)} are missing or cut off and {len(found.damaged)} cannot be read{named}; "
    return Answer(what="stored files", ok=not wrong, sentence=sentence + f"{found.indexed} got the row they lacked")


def database(settings: Settings) -> Answer:
    try:
        start.upgrade(settings)
    except SettingsError as e:
        return Answer(what="database", ok=False, sentence=e.sentence)
    kind = settings.url.partition(":")[0]
    return Answer(what="database", ok=True, sentence=f"{kind}, schema {migrations.current(settings.url)}")


def all_peers(settings: Settings) -> Iterator[Answer]:
    """Those of the settings and those that were added; one that nobody can call is only named."""
    try:
        start.prepare(settings)
    except SettingsError as e:
        yield Answer(what="peers", ok=False, sentence=e.sentence)
        return
    opened = Database(settings.url)
    try:
        found = peers.list_peers(opened)
        with opened.reading() as session:
            astray = addresses.astray(session, settings)
    finally:
        opened.close()
    for sentence in astray:
        yield Answer(what="destinations", ok=False, sentence=sentence)
    if not found and not settings.receive.accept_unknown_callers:
        yield Answer(what="peers", ok=False, sentence="nobody may send: add one with `radnode peers add`")
    for sentence in peers.unheard(settings, found):
        yield Answer(what="peers", ok=False, sentence=sentence)
    for peer in found:
        if peer.called_at:
            yield echo_peer(peer, settings)
        elif peer.url and peer.way in WEB:
            *_, last = peer_steps_web.web(peer, settings)
            yield Answer(what=f"peer {peer.name}", ok=last.ok, sentence=last.sentence)
        else:
            sentence = "may send; without a place and port it is not called"
            yield Answer(what=f"peer {peer.name}", ok=True, sentence=sentence)


def echo_peer(peer: Peer, settings: Settings) -> Answer:
    """A C-ECHO to a peer."""
    what = f"peer {peer.name}"
    try:
        address = addresses.address_of(peer, settings)
    except DeliveryError as e:
        return Answer(what=what, ok=False, sentence=str(e))
    return echo(what, address, settings)


def echo(what: str, address: Destination, settings: Settings) -> Answer:
    step = peer_steps.connect(address)
    if step.ok:
        step = peer_steps.echo(address, settings)
    return Answer(what=what, ok=step.ok, sentence=step.sentence)


def reach(destination: Destination, settings: Settings) -> Answer:
    """Whether a destination is there; nothing is sent."""
    what = f"destination {destination.name}"
    if destination.kind == "dimse":
        return echo(what, destination, settings)
    if destination.kind == "folder":
        return folder(what, destination.folder)
    if destination.kind in ("hl7", "mail"):
        return port(what, destination.host, destination.port)
    if destination.kind == "webhook":
        signed = "is called, signed," if destination.secret else "lacks the `secret` to sign with and is not called"
        return Answer(what=what, ok=bool(destination.secret), sentence=f"{signed} when a priority changes")
    path = "/system" if destination.kind == "orthanc" else "/metadata"
    try:
        with fhir_rest_auth.client(destination, TIMEOUT_S) as http:
            answer = http.get(destination.url.rstrip("/") + path)
    except DeliveryError as e:
        return Answer(what=what, ok=False, sentence=str(e))
    except (httpx.HTTPError, httpx.InvalidURL) as e:
        return Answer(what=what, ok=False, sentence=f"{destination.url} cannot be reached: {e}")
    return Answer(what=what, ok=answer.is_success, sentence=f"{destination.url} answered {answer.status_code}")


def port(what: str, host: str, number: int) -> Answer:
    try:
        socket.create_connection((host, number), timeout=TIMEOUT_S).close()
    except OSError as e:
        return Answer(what=what, ok=False, sentence=f"{host}:{number} cannot be reached: {type(e).__name__}")
    return Answer(what=what, ok=True, sentence=f"{host}:{number} takes connections")


def certificates(settings: Settings) -> Iterator[Answer]:
    """Every certificate of the settings: not well when it ended or cannot be read, warned of when it ends soon."""
    for found in tls.certificates(settings):
        problem = tls.warning(found, settings.tls.warn_days)
        ok = not found.problem and found.days(time.time()) >= 0
        yield Answer(
            what=f"certificate of {found.what}",
            ok=ok,
            sentence=problem or f"ends in {found.days(time.time()):.0f} days",
        )


def folder(what: str, path: Path | None) -> Answer:
    if path is None:
        return Answer(what=what, ok=False, sentence="it has no folder")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        return Answer(what=what, ok=False, sentence=f"{path} cannot be made: {e.strerror}")
    return Answer(what=what, ok=os.access(path, os.W_OK), sentence=f"{path}")


def models(settings: Settings) -> Iterator[Answer]:
    try:
        cards = weights_use.known_cards(settings)
    except (DBAPIError, SettingsError):  # which is told already; the weights can be looked at all the same
        cards = registry.cards(settings.weights_folder)
    except (ValueError, OSError) as e:
        yield Answer(what="models", ok=False, sentence=str(e))
        return
    for card in cards:
        yield model(card, settings)


def model(card: ModelCard, settings: Settings) -> Answer:
    """A model's weights. Missing ones are no fault: the model is listed as not installed."""
    what = f"model {card.identity.name}"
    if card.availability in (Availability.NOT_INSTALLED, Availability.OFF) or not card.identity.weights_sha256:
        state = "training-free" if card.availability is Availability.READY else str(card.availability)
        return Answer(what=what, ok=True, sentence=state)
    try:
        registry.load(card, "cpu", settings.weights_folder)
    except Exception as e:  # whatever is wrong with the weights or their code is the answer
        return Answer(what=what, ok=False, sentence=str(e))
    return Answer(what=what, ok=True, sentence=f"{card.availability}; SHA-256 {card.identity.weights_sha256[:16]}…")


def device(settings: Settings) -> Answer:
    from radnode_inference.device import NoDeviceError, resolve

    try:
        found = resolve(settings.work.device).type
    except NoDeviceError as e:
        return Answer(what="device", ok=False, sentence=str(e))
    return Answer(what="device", ok=True, sentence=f"{settings.work.device}: models run on {found}")
