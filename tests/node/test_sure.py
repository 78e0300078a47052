"""What cannot be undone is asked first, by a page that needs no script; and pages with nothing to show say so."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.pages import serving
from support.results import prepare

from radnode import accounts, accounts_tokens
from radnode.accounts import Role
from radnode.accounts_tokens import Scope
from radnode.database import Database
from radnode.settings import Settings, Web

PASSWORD = "a long enough passphrase"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[tuple[Database, httpx.Client]]:
    settings = Settings(data=tmp_path / "data", web=Web(login="required"))
    database = prepare(settings)
    for name, role in (("root", Role.ADMINISTRATOR), ("anna", Role.READER)):
        accounts.add(database, name, role, PASSWORD, time.time())
    accounts_tokens.add(database, "ris", {Scope.FHIR_READ}, "root", time.time(), days=1)
    with serving(settings) as client:
        client.headers["sec-fetch-site"] = "same-origin"
        assert client.post("/login", data={"name": "root", "password": PASSWORD}).is_success
        yield database, client
    database.close()


@pytest.mark.parametrize(
    ("path", "name", "says"),
    [("/users/remove", "anna", "can sign in no more"), ("/tokens/revoke", "ris", "a new token has another secret")],
)
def test_a_person_or_token_goes_only_after_it_was_asked(
    node: tuple[Database, httpx.Client], path: str, name: str, says: str
) -> None:
    database, client = node

    def there() -> set[str]:
        with database.reading() as session:
            return {one.name for found in (accounts.accounts, accounts_tokens.tokens) for one in found(session)}

    asked = client.post(path, data={"name": name})
    assert asked.status_code == 200 and says in asked.text and "cannot be undone" in asked.text
    assert name in asked.text and name in there()
    form = asked.text.partition(f'action="{path}"')[2].partition("</form>")[0]
    (button,) = re.findall(r'<button name="(\w+)" value="(\w+)">', form)
    assert button == ("sure", "true")
    assert client.post(path, data={"name": name, "sure": "true"}).is_success
    assert name not in there()
    assert client.post(path, data={"name": name}).status_code == 409, "nobody is asked about what is not there"


def test_the_last_administrator_is_not_removed_however_sure(node: tuple[Database, httpx.Client]) -> None:
    _, client = node
    assert client.post("/users/remove", data={"name": "root", "sure": "true"}).status_code == 409


def test_a_policy_without_a_history_says_so(node: tuple[Database, httpx.Client]) -> None:
    _, client = node
    page = client.get("/triage").text
    assert "None yet: the policy is noted when the node starts" in page and page.count("<h2") >= 2
