"""Sign-in at an identity provider: a real one of the test's own, over real sockets, and each way to deceive it."""

import re
import time
from collections.abc import Iterator
from html import escape, unescape
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import httpx
import pytest
from joserfc.jwk import RSAKey
from support.oidc import Provider, provider
from support.pages import serving
from support.results import prepare

from radnode import accounts
from radnode.accounts import Role
from radnode.database import Database
from radnode.settings import Settings, Web
from radnode.settings_access import Oidc


@pytest.fixture
def there() -> Iterator[Provider]:
    with provider() as made:
        made.claims = {"sub": "42", "preferred_username": "anna", "realm_access": {"roles": ["radiology"]}}
        yield made


@pytest.fixture
def settings(there: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("OIDC_SECRET", there.client_secret)
    oidc = Oidc(
        issuer=there.issuer, client_id="radnode", client_secret="env:OIDC_SECRET", role_claim="realm_access.roles",
        administrators=("admins",), readers=("radiology",),
    )  # fmt: skip
    return Settings(data=tmp_path, web=Web(login="required"), oidc=oidc)


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    made = prepare(settings)
    yield made
    made.close()


@pytest.fixture
def client(settings: Settings, database: Database) -> Iterator[httpx.Client]:
    with serving(settings) as made:
        made.timeout = httpx.Timeout(60)
        yield made


def test_a_person_signs_in_there_and_is_a_reader_here(client: httpx.Client, database: Database) -> None:
    assert 'href="/login/oidc"' in client.get("/").text
    page = client.get("/login/oidc")
    assert (page.status_code, page.url.path) == (200, "/")
    assert "anna" in page.text
    assert client.get("/users").status_code == 403
    with database.reading() as session:
        (account,) = accounts.accounts(session)
    assert (account.name, account.role, account.subject.endswith(" 42")) == ("anna", Role.READER, True)


def test_who_signs_in_there_goes_on_to_the_page_that_was_asked_for(client: httpx.Client) -> None:
    asked = client.get("/peers")
    assert asked.url.path == "/login"
    (link,) = re.findall(r'href="(/login/oidc[^"]*)"', asked.text)
    went_on = client.get(unescape(link))
    assert (went_on.status_code, went_on.url.path) == (200, "/peers")


@pytest.mark.parametrize(
    "elsewhere", ["//evil.example/", "https://evil.example/", "/\\evil.example", "/%2f/evil.example"]
)
def test_nobody_is_led_elsewhere_by_a_sign_in(client: httpx.Client, elsewhere: str) -> None:
    assert client.get("/login/oidc", params={"next": elsewhere}).url.host == "127.0.0.1"
    leaving = client.get("/login/oidc", follow_redirects=False)
    returning = httpx.get(leaving.headers["location"], follow_redirects=False, timeout=60).headers["location"]
    client.cookies.set("radnode-onward", quote(elsewhere), domain="127.0.0.1", path="/login")
    answer = client.get(returning, follow_redirects=False)
    assert answer.status_code == 303 and urlsplit(answer.headers["location"]).netloc == ""
    assert not answer.headers["location"].startswith(("//", "/\\"))


def test_the_role_follows_the_provider_at_each_sign_in(client: httpx.Client, there: Provider) -> None:
    there.claims["realm_access"] = {"roles": ["x", "admins"]}
    client.get("/login/oidc")
    assert client.get("/users").status_code == 200
    there.claims["realm_access"] = {"roles": ["radiology"]}
    client.get("/login/oidc")
    assert client.get("/users").status_code == 403
    there.claims["realm_access"] = {"roles": ["cooks"]}
    client.cookies.clear()
    assert client.get("/login/oidc").status_code == 403
    assert client.get("/api/worklist").status_code == 401


@pytest.mark.parametrize(
    "claims",
    [{"iss": "http://evil.example"}, {"aud": "another-client"}, {"aud": ["radnode", "another"], "azp": "another"},
     {"preferred_username": ["anna"]}, {"exp": 1}, {"nonce": "of another sign-in"}, {"sub": None},
     {"preferred_username": "../../x"}, {"preferred_username": ""}],
)  # fmt: skip
def test_a_token_for_somebody_else_opens_nothing(
    client: httpx.Client, there: Provider, claims: dict[str, object]
) -> None:
    there.claims |= claims
    assert client.get("/login/oidc").status_code == 403
    assert client.get("/api/worklist").status_code == 401


def test_a_token_that_another_key_signed_opens_nothing(client: httpx.Client, there: Provider) -> None:
    there.key = RSAKey.generate_key(2048, {"kid": "one"})
    assert client.get("/login/oidc").status_code == 403


def test_a_code_that_was_begun_in_another_browser_opens_nothing(client: httpx.Client, there: Provider) -> None:
    """Log-in forgery: the attacker's own code and state, followed by the victim."""
    leaving = client.get("/login/oidc", follow_redirects=False)
    returning = httpx.get(leaving.headers["location"], follow_redirects=False, timeout=60).headers["location"]
    client.cookies.clear()
    assert client.get(returning).status_code == 403
    assert client.get("/api/worklist").status_code == 401


def test_a_way_back_works_once(client: httpx.Client) -> None:
    leaving = client.get("/login/oidc", follow_redirects=False)
    returning = httpx.get(leaving.headers["location"], follow_redirects=False, timeout=60).headers["location"]
    assert client.get(returning).status_code == 200
    assert client.get(returning).status_code == 403


def test_a_name_that_a_local_account_has_is_not_taken_over(
    client: httpx.Client, database: Database, there: Provider
) -> None:
    accounts.add(database, "anna", Role.ADMINISTRATOR, "a long enough passphrase", time.time())
    refused = client.get("/login/oidc")
    assert refused.status_code == 403
    assert "Another account is called anna already." in refused.text


def test_a_provider_that_is_away_is_said_so(settings: Settings, database: Database) -> None:
    gone = settings.model_copy(update={"oidc": settings.oidc.model_copy(update={"issuer": "http://127.0.0.1:9"})})
    with serving(gone) as client:
        answer = client.get("/login/oidc")
    assert answer.status_code == 403
    assert "does not answer" in answer.text


def test_a_provider_that_says_no_is_told_so(client: httpx.Client) -> None:
    leaving = client.get("/login/oidc", follow_redirects=False)
    state = parse_qs(urlsplit(leaving.headers["location"]).query)["state"][0]
    answer = client.get("/login/oidc/back", params={"state": state, "error": "access_denied"})
    assert answer.status_code == 403
    assert "did not sign this person in (access_denied)." in answer.text


@pytest.mark.parametrize("said", [[1], {"id_token": 12}, "x"])
def test_a_provider_whose_token_is_none_is_refused_in_words(
    client: httpx.Client, there: Provider, said: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(there, "token", lambda *_: (200, said))
    answer = client.get("/login/oidc")
    assert answer.status_code == 403
    assert "The identity provider" in answer.text


def test_an_authority_of_the_provider_that_cannot_be_read_is_said_so(settings: Settings, database: Database) -> None:
    lost = settings.model_copy(update={"oidc": settings.oidc.model_copy(update={"ca": Path("/nowhere/ca.crt")})})
    with serving(lost) as client:
        answer = client.get("/login/oidc")
    assert answer.status_code == 403
    assert "/nowhere/ca.crt (FileNotFoundError)" in answer.text


def test_the_secret_of_the_client_is_never_in_the_settings_themselves(settings: Settings, database: Database) -> None:
    open_ = settings.model_copy(update={"oidc": settings.oidc.model_copy(update={"client_secret": "s3cret"})})
    with serving(open_) as client:
        answer = client.get("/login/oidc")
    assert answer.status_code == 403
    assert "file:PATH or env:NAME" in answer.text
    assert "s3cret" not in answer.text


@pytest.mark.parametrize("name", ["o'brien@hospital.example", "HOSPITAL\\rita", "\u738b\u5c0f\u660e", "Rita <b>Reader"])
def test_a_name_is_the_providers_own(client: httpx.Client, there: Provider, name: str) -> None:
    there.claims = there.claims | {"preferred_username": name}
    page = client.get("/login/oidc")
    assert (page.status_code, page.url.path) == (200, "/")
    assert f">{escape(name)}</a>" in page.text.replace("&#34;", "&quot;").replace("&#39;", "&#x27;")


@pytest.mark.parametrize("name", ["", " ", "x" * 65, "a\nb", "a "])
def test_a_name_that_cannot_be_shown_is_refused_in_words(client: httpx.Client, there: Provider, name: str) -> None:
    there.claims = there.claims | {"preferred_username": name}
    page = client.get("/login/oidc")
    assert page.status_code == 403 and "gives no name of 1 to 64 characters" in page.text
