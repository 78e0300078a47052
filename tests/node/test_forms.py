"""Every form of the pages with fields that are odd, missing, repeated, very long, not UTF-8, NUL or files instead of texts.

No answer is a failure of the server; every refusal says why in a sentence, and changes nothing.
"""

import re
import sqlite3
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlencode

import httpx
import pytest
from support.filled import Filled, fill
from support.pages import serving

from radnode import accounts_sessions
from radnode.tables_access import AttemptRow
from radnode.tables_monitoring import SimulationRow
from radnode.web.access import TABLE
from radnode.web.forms import MOST, OTHERS

TOKEN = "0" * 32
FORMS: Mapping[str, Mapping[str, str]] = {
    "/login": {"name": "nobody", "password": "a wrong one", "onward": "/"},
    "/first": {"token": "rn_wrong", "name": "a", "password": "a long enough passphrase", "again": "x"},
    "/logout": {},
    "/account": {"before": "x", "password": "a long enough passphrase", "again": "a long enough passphrase"},
    "/studies/{study_uid}/rerun": {"model": "no-such-model"},
    "/studies/{study_uid}/retract": {"model": "ct-lung", "reason": "wrong", "comment": "x", "confirmed": "yes"},
    "/studies/{study_uid}/rulings": {"model": "ct-lung", "tracking_uid": "1.2.3", "ruling": "accepted", "comment": "x", "seen": "1.0"},
    "/studies/{study_uid}/remark": {"text": "x", "seen": "x"},
    "/studies/{study_uid}/missed": {"model": "no-such-model", "comment": "x"},
    "/studies/{study_uid}/missed/undo": {"tracking_uid": "1.2.3"},
    "/studies/{study_uid}/text": {
        "model": "ct-lung", "token": TOKEN, "action": "save", "language": "en", "text": "x", "name": "x",
        "version": "",
    },
    "/worklist/{study_uid}/priority": {"level": "ROUTINE", "comment": "x"},
    "/worklist/{study_uid}/priority/undo": {"comment": "x"},
    "/worklist/{study_uid}/read": {"revision": "7"},
    "/worklist/{study_uid}/read/undo": {},
    "/triage/simulation": {
        "readers": "1", "load": "0.8", "per_hour": "3", "prevalence": "0.1", "emergency": "0.2", "studies": "100",
        "source": "described", "since_days": "30", "draft": "", "with_draft": "", "interrupts": "", "code": "",
    },
    "/triage/simulation/{number}/cancel": {},
    "/deliveries/{delivery_id}/send-again": {"study_uid": "1.2.3"},
    "/peers": {
        "name": "try", "ae_title": "X", "address": "10.9.9.9", "host": "pacs", "port": "104", "quiet_s": "5", "may": "send",
        "way": "move", "url": "http://pacs", "user": "u", "password": "file:/x", "tls": "false", "old": "try",
        "chosen": "true", "sure": "true",
    },
    "/peers/remove": {"name": "nobody"},
    "/peers/test": {"name": "nobody"},
    "/reconcile": {"peer": "nobody", "days": "2"},
    "/reconcile/fetch": {"study_uid": "1.2.3", "peer": "nobody"},
    "/fetch": {"study_uid": "1.2.3", "accession_number": ""},
    "/rules/try": {"study_uid": "1.2.3.99", "draft": ""},
    "/rules/replay": {"draft": "x = 1", "days": "3"},
    "/destinations/probe": {"name": "nobody"},
    "/destinations/send-again": {"name": "nobody"},
    "/users": {"name": "a b", "role": "administrator", "password": "short"},
    "/users/remove": {"name": "nobody", "sure": "true"},
    "/users/role": {"name": "nobody", "role": "reader"},
    "/users/password": {"name": "nobody", "password": "a long enough passphrase"},
    "/tokens": {"name": "a b", "scopes": "api.read", "days": "1"},
    "/tokens/revoke": {"name": "nobody", "sure": "true"},
}  # fmt: skip
"""The path of each form -> fields that are formed well, and would lead to nothing here (so that the whole table can be tried)."""
NESTED = "rules = " + "[" * 3000
ODD = (
    "%ff%fe", "%c0%80", "-1", NESTED, "1e999", "nan", "9" * 40, "'; DROP TABLE studies; --", "{{ 7 * 7 }}", "../../etc/passwd", "\r\nX: y",
    "\N{RIGHT-TO-LEFT OVERRIDE}x", "\N{GRINNING FACE}", " ", "１", "x" * 70_000,
)  # fmt: skip
OWN = frozenset({"audit", "audit_head", "attempts"})
"""Tables that tell of what was refused."""


def test_every_form_of_the_pages_is_in_the_table() -> None:
    forms = {one.path for one in TABLE if "POST" in one.methods and not one.path.startswith(OTHERS)}
    assert forms == set(FORMS)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    node = fill(tmp_path_factory.mktemp("node"))
    now = time.time()
    key, guesses = accounts_sessions.digest("address 127.0.0.1"), accounts_sessions.OF_ADDRESS - 5
    with node.database.transaction() as session:  # so that not every wrong password is hashed
        session.add_all(AttemptRow(key=key, at=now) for _ in range(guesses))
    with node.database.transaction() as session:  # one runs, so that no form begins another in a process of its own
        session.add(SimulationRow(id=1, asked={}, state="running", created_at=now, beat_at=now + 3600))
    yield node
    node.database.close()


@dataclass(frozen=True, kw_only=True)
class Sender:
    """Sends forms as a browser does, and looks into the database."""

    client: httpx.Client
    node: Filled

    def address(self, path: str) -> str:
        return path.format(study_uid=self.node.normal, number=7, delivery_id=99_999)

    def send(self, path: str, body: str | bytes, kind: str = "application/x-www-form-urlencoded") -> httpx.Response:
        headers = {"accept": "text/html", "content-type": kind}
        return self.client.post(self.address(path), content=body, headers=headers, follow_redirects=False)

    def rows(self) -> list[tuple[object, ...]]:
        """Everything but the record of what was asked."""
        with sqlite3.connect(self.node.settings.data / "radnode.db") as there:
            names = [n for (n,) in there.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
            found = [(n, *row) for n in names if n not in OWN for row in there.execute(f'SELECT * FROM "{n}"')]
        there.close()
        return found

    def judged(self, path: str, what: str, answer: httpx.Response, before: list[tuple[object, ...]]) -> list[str]:
        """What is wrong with an answer: nothing, where it refused in words and changed nothing, or did what it was asked."""
        said = re.search(r'(?:role="alert"|<p)[^>]*>\s*\w[^<]{9,}', answer.text)
        wrong = []
        if answer.status_code >= 500:
            wrong.append(f"{path} {what}: {answer.status_code}")
        if 400 <= answer.status_code < 500 and not said:
            wrong.append(f"{path} {what}: no sentence, {answer.text[:80]!r}")
        if answer.status_code >= 400 and self.rows() != before:
            wrong.append(f"{path} {what}: something was changed")
        return wrong


@pytest.fixture(scope="module")
def sender(filled: Filled) -> Iterator[Sender]:
    with serving(filled.settings) as client:
        client.timeout = httpx.Timeout(60)
        yield Sender(client=client, node=filled)


@pytest.mark.parametrize("path", sorted(FORMS))
def test_no_field_of_any_form_makes_the_server_fail_and_a_refusal_says_why_and_changes_nothing(
    path: str, sender: Sender
) -> None:
    form, wrong, before = dict(FORMS[path]), [], sender.rows()

    def tried(what: str, body: str) -> None:
        nonlocal before
        answer = sender.send(path, body)
        wrong.extend(sender.judged(path, what, answer, before))
        if answer.status_code < 400:
            before = sender.rows()

    tried("nothing at all", "")
    tried("as it is", urlencode(form))
    tried("unknown fields", urlencode({**form, "__proto__": "x", "": "y"}))
    for at, field in enumerate(form):
        others = {k: v for k, v in form.items() if k != field}
        tried(f"without {field}", urlencode(others))
        tried(f"{field} twice", urlencode([*form.items(), (field, "another")]))
        for odd in (ODD[(at + n * 3) % len(ODD)] for n in range(3 if len(form) < 8 else 1)):
            value = odd if odd.startswith("%") else quote(odd)
            tried(f"{field}={odd[:20]!r}", f"{urlencode(others)}&{field}={value}")
    assert wrong == []


@pytest.mark.parametrize("path", sorted(FORMS))
def test_a_nul_a_file_and_a_form_without_end_are_refused_by_every_form(path: str, sender: Sender) -> None:
    before = sender.rows()
    field = next(iter(FORMS[path]), "x")
    part = f'--b\r\nContent-Disposition: form-data; name="{field}"; filename="x.dcm"\r\n\r\n'.encode()
    bodies = {
        "NUL": (422, urlencode({**FORMS[path], field: "a\0b"}).encode(), "application/x-www-form-urlencoded"),
        "a file": (422, part + b"\0\1\2\r\n--b--\r\n", "multipart/form-data; boundary=b"),
        "too long": (413, b"x=" + b"a" * (MOST + 1), "application/x-www-form-urlencoded"),
    }
    for what, (status, body, kind) in bodies.items():
        answer = sender.send(path, body, kind)
        assert answer.status_code == status, what
        assert sender.judged(path, what, answer, before) == []
    text_in_place = sender.send(path, part + b"text\r\n--b--\r\n", "multipart/form-data; boundary=b")
    assert sender.judged(path, "a file of text", text_in_place, before) == []
