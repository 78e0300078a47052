"""Passwords, sessions, the first administrator, and who has to sign in at all."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner
from sqlalchemy import select, update
from support.access import ADMINISTRATOR, PASSWORD, READER, People, people, served, sign_in
from support.pages import serving
from support.results import prepare

from radnode import accounts, accounts_sessions, accounts_start, accounts_tokens
from radnode.accounts import Role
from radnode.accounts_sessions import OF_ACCOUNT
from radnode.cli import cli
from radnode.database import Database
from radnode.errors import RefusedError, SettingsError
from radnode.settings import Settings, Web
from radnode.tables_access import AccountRow, AttemptRow, AuditRow, SessionRow, TokenRow
from radnode.web.door import COOKIE
from radnode.web.login import own_path


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[People]:
    made = people(tmp_path_factory.mktemp("node"))
    yield made
    made.database.close()


@pytest.fixture
def client(here: People) -> Iterator[httpx.Client]:
    with served(here) as made:
        yield made


def test_a_stranger_is_shown_the_page_to_sign_in_on_and_nothing_else(client: httpx.Client) -> None:
    asked = client.get("/studies/1.2.3", follow_redirects=False)
    assert (asked.status_code, asked.headers["location"]) == (303, "/login?next=/studies/1.2.3")
    page = client.get("/")
    assert page.url.path == "/login"
    assert "Worklist" not in page.text
    for path in ("/api/worklist", "/fhir/DiagnosticReport", "/fragments/worklist", "/metrics", "/changes"):
        assert client.get(path).status_code == 401, path


def test_one_who_signs_in_gets_a_cookie_that_scripts_and_other_sites_do_not(client: httpx.Client) -> None:
    answer = sign_in(client, READER)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    for flag in ("HttpOnly", "SameSite=lax", "Path=/"):
        assert flag in cookie
    page = client.get("/")
    assert page.status_code == 200
    assert READER in page.text
    assert 'href="/users"' not in page.text


def test_over_tls_the_cookie_is_for_this_host_and_for_tls_alone(tmp_path: Path) -> None:
    here = people(tmp_path, behind_proxy=True)
    with served(here) as client:
        client.headers["x-forwarded-proto"] = "https"
        answer = sign_in(client, READER)
        assert answer.headers["set-cookie"].startswith("__Host-radnode=")
        assert "Secure" in answer.headers["set-cookie"]
        assert "max-age" in answer.headers["strict-transport-security"]
    here.database.close()


def test_each_sign_in_makes_a_new_session_and_ends_the_one_before(client: httpx.Client, here: People) -> None:
    sign_in(client, READER)
    first = client.cookies["radnode"]
    sign_in(client, READER)
    assert client.cookies["radnode"] != first
    assert client.get("/api/worklist", headers={"cookie": f"radnode={first}"}).status_code == 401
    with here.database.reading() as session:
        assert first not in {row.id_sha256 for row in session.scalars(select(SessionRow))}  # only its hash is kept


def test_whoever_signs_out_is_out_with_the_old_cookie_too(client: httpx.Client) -> None:
    sign_in(client, READER)
    kept = client.cookies["radnode"]
    assert client.post("/logout").url.path == "/login"
    assert client.get("/api/worklist", headers={"cookie": f"radnode={kept}"}).status_code == 401


@pytest.mark.parametrize("column", ["seen_at", "expires_at"])
def test_a_session_ends_after_a_while_without_a_click_and_in_any_case(
    client: httpx.Client, here: People, column: str
) -> None:
    sign_in(client, READER)
    assert client.get("/api/worklist").status_code == 200
    long_ago = time.time() - 3601 if column == "seen_at" else time.time() - 1
    with here.database.transaction() as session:
        session.execute(update(SessionRow).values({column: long_ago}))
    assert client.get("/api/worklist").status_code == 401


def test_what_an_open_page_asks_by_itself_does_not_keep_the_session(client: httpx.Client, here: People) -> None:
    sign_in(client, READER)
    before = time.time() - 600
    with here.database.transaction() as session:
        session.execute(update(SessionRow).values(seen_at=before))

    def seen() -> list[float]:
        with here.database.reading() as session:
            return list(session.scalars(select(SessionRow.seen_at)))

    client.get("/fragments/worklist")
    assert set(seen()) == {before}
    client.get("/")
    assert max(seen()) > before


def test_another_role_or_password_ends_every_session(client: httpx.Client, here: People) -> None:
    for change in (
        lambda: accounts.set_role(here.database, READER, Role.READER),
        lambda: accounts.set_password(here.database, READER, PASSWORD),
    ):
        sign_in(client, READER)
        assert client.get("/api/worklist").status_code == 200
        change()
        assert client.get("/api/worklist").status_code == 401


def test_a_page_of_another_site_changes_nothing_with_the_cookie(client: httpx.Client) -> None:
    sign_in(client, ADMINISTRATOR)
    form = {"name": "evil", "ae_title": "EVIL"}
    for headers in (
        {"origin": "http://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"}, {"origin": ""},
    ):  # fmt: skip
        assert client.post("/peers", data=form, headers=headers).status_code == 403, headers
    del client.headers["origin"]
    assert client.post("/peers", data=form).status_code == 403  # a cookie without any word of where the form stood
    assert "evil" not in client.get("/peers").text


def test_what_a_reader_may_not_is_refused_on_a_page_and_to_a_program_in_a_sentence(client: httpx.Client) -> None:
    sign_in(client, READER)
    refused = client.get("/users", headers={"accept": "text/html", "accept-language": "zh-TW"})
    assert (refused.status_code, refused.headers["content-type"]) == (403, "text/html; charset=utf-8")
    assert '<html lang="zh-TW">' in refused.text and "<title>" in refused.text and "您無權進行此操作。" in refused.text
    assert 'href="/users"' not in refused.text, "the page shows where a reader may go"
    assert client.get("/users").text == "You may not do this."


def test_ten_wrong_passwords_and_even_the_right_one_has_to_wait(tmp_path: Path) -> None:
    here = people(tmp_path)
    with served(here) as client:
        with here.database.transaction() as session:
            for _ in range(9):
                accounts_sessions.failed(session, READER, "192.0.2.1", time.time())
        wrong = sign_in(client, READER, "wrong")
        assert wrong.status_code == 401 and f'value="{READER}"' in wrong.text, "only the password is typed again"
        refused = sign_in(client, READER)
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "900"
        assert sign_in(client, ADMINISTRATOR).status_code == 303  # others may go on
        with here.database.transaction() as session:
            session.execute(update(AttemptRow).values(at=time.time() - 901))
        assert sign_in(client, READER).status_code == 303
    here.database.close()


def test_many_passwords_at_once_are_no_more_guesses_than_one_after_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The right one was asked for before the tenth wrong one had failed, and is found right after it."""

    here = people(tmp_path)

    def is_password(database: Database, name: str, password: str) -> bool:
        with database.transaction() as session:
            for n in range(OF_ACCOUNT):
                accounts_sessions.failed(session, name, f"192.0.2.{n}", time.time())
        return True

    monkeypatch.setattr(accounts, "is_password", is_password)
    with served(here) as client:
        assert sign_in(client, READER).status_code == 429
        assert client.get("/api/worklist").status_code == 401
    here.database.close()


def test_a_name_that_is_not_there_is_answered_like_a_wrong_password(client: httpx.Client, here: People) -> None:
    nobody, wrong = sign_in(client, "nobody", "x" * 20), sign_in(client, READER, "x" * 20)
    typed = wrong.text.replace(f'value="{READER}"', 'value="nobody"')  # what the caller wrote stands there again
    assert (nobody.status_code, nobody.text) == (wrong.status_code, typed)
    with here.database.reading() as session:  # it might be a password in the wrong field
        assert "nobody" not in {row.who for row in session.scalars(select(AuditRow))}


def test_passwords_are_kept_as_argon2id_and_never_stand_anywhere(here: People) -> None:
    with here.database.reading() as session:
        hashes = list(session.scalars(select(AccountRow.password_hash)))
    assert all(h.startswith("$argon2id$v=19$") for h in hashes)
    assert len(set(hashes)) == 2
    for file in here.settings.data.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert PASSWORD.encode() not in content
            assert not any(token.encode() in content for token in here.tokens.values())


@pytest.mark.parametrize(
    ("password", "why"), [("short", "12"), ("aaaaaaaaaaaaaa", "easy"), ("rita-rita-rita!", "easy")]
)
def test_poor_passwords_are_refused(here: People, password: str, why: str) -> None:
    with pytest.raises(RefusedError, match=why):
        accounts.set_password(here.database, READER, password)


def test_the_last_administrator_stays(here: People) -> None:
    with pytest.raises(RefusedError, match="only administrator"):
        accounts.remove(here.database, ADMINISTRATOR)
    with pytest.raises(RefusedError, match="only administrator"):
        accounts.set_role(here.database, ADMINISTRATOR, Role.READER)


def test_a_person_changes_the_own_password(tmp_path: Path) -> None:
    here = people(tmp_path)
    with served(here) as client:
        sign_in(client, READER)
        new = {"password": "something else entirely", "again": "something else entirely"}
        assert client.post("/account", data=new | {"before": "wrong"}).status_code == 422
        assert client.post("/account", data=new | {"before": PASSWORD}).url.path == "/"
        assert sign_in(client, READER).status_code == 401
        assert sign_in(client, READER, new["password"]).status_code == 303
    here.database.close()


@pytest.mark.parametrize(
    ("asked", "led"),
    [("/studies/1", "/studies/1"), ("//evil.example", "/"), ("https://evil.example", "/"), ("/\\evil.example", "/"),
     ("/%2f%2fevil", "/%2f%2fevil"), ("", "/"), ("/%5cevil", "/"), ("/a\nb", "/")],
)  # fmt: skip
def test_after_signing_in_nobody_is_led_to_another_site(asked: str, led: str) -> None:
    assert own_path(asked) in (led, "/")


def test_the_first_administrator_is_made_with_a_token_that_works_once(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, web=Web(login="required"))
    database = prepare(settings)
    token = accounts_start.first_words(settings).splitlines()[-1]
    assert re.fullmatch(r"rn_[\w-]{32}", token)
    form = {"name": "eve", "password": PASSWORD, "again": PASSWORD}
    with serving(settings) as client:
        assert client.get("/").url.path == "/first"
        guessed = client.post("/first", data=form | {"token": "rn_guess"})
        assert guessed.status_code == 403 and f'value="{form["name"]}"' in guessed.text
        assert form["password"] not in guessed.text and "rn_guess" not in guessed.text
        assert client.get("/api/worklist", headers={"authorization": f"Bearer {token}"}).status_code == 401
        made = client.post("/first", data=form | {"token": token})
        assert (made.status_code, made.url.path) == (200, "/")
        assert "/users" in made.text
        assert client.post("/first", data=form | {"token": token, "name": "mallory"}).status_code == 403
    assert accounts_start.first_words(settings) == ""
    with database.reading() as session:
        assert [a.name for a in accounts.accounts(session)] == ["eve"]
        assert list(session.scalars(select(TokenRow))) == []
    database.close()


def test_each_start_prints_another_first_token_and_the_one_before_is_void(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, web=Web(host="0.0.0.0"))
    database = prepare(settings)
    first, second = (accounts_start.first_words(settings).splitlines()[-1] for _ in range(2))
    with database.reading() as session:
        assert not accounts_tokens.is_first_run(session, first, time.time())
        assert accounts_tokens.is_first_run(session, second, time.time())
        assert not accounts_tokens.is_first_run(session, second, time.time() + 25 * 3600)
    database.close()


@pytest.mark.parametrize(
    ("web", "asked"),
    [(Web(), False), (Web(host="0.0.0.0"), True), (Web(login="required"), True), (Web(behind_proxy=True), True),
     (Web(login="off", behind_proxy=True), False)],
)  # fmt: skip
def test_who_listens_beyond_this_machine_asks_people_to_sign_in(web: Web, asked: bool) -> None:
    assert accounts_start.must_sign_in(Settings(web=web)) is asked


def test_no_login_without_a_proxy_that_asks_is_refused_at_the_start() -> None:
    for host in ("127.0.0.1", "0.0.0.0"):
        with pytest.raises(SettingsError, match="behind_proxy"):
            accounts_start.refuse_unsafe(Settings(web=Web(host=host, login="off")))
    accounts_start.refuse_unsafe(Settings(web=Web(login="off", behind_proxy=True)))


def test_on_this_machine_the_page_is_open_until_there_is_an_account_and_says_so(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)
    database = prepare(settings)
    with serving(settings) as client:
        page = client.get("/")
        assert page.status_code == 200
        assert "No log-in: open to whoever sits at this machine" in page.text
        assert client.get("/", headers={"x-forwarded-for": "192.0.2.7"}).status_code == 403
        accounts.add(database, "anna", Role.ADMINISTRATOR, PASSWORD, time.time())
        assert client.get("/").url.path == "/login"
    database.close()


def test_a_proxy_that_asks_says_who_is_there_and_nobody_else_can(tmp_path: Path) -> None:
    proxy = Web(login="off", behind_proxy=True, proxy_administrators=("pacs-admins",))
    settings = Settings(data=tmp_path, web=proxy)
    database = prepare(settings)
    with serving(settings) as client:
        assert client.get("/").status_code == 401
        reader = {"x-forwarded-user": "rita", "x-forwarded-groups": "radiology", "x-forwarded-for": "192.0.2.7"}
        assert client.get("/", headers=reader).status_code == 200
        assert client.get("/users", headers=reader).status_code == 403
        assert client.get("/users", headers=reader | {"x-forwarded-groups": "a, pacs-admins"}).status_code == 200
        with database.reading() as session:
            row = session.scalars(select(AuditRow).where(AuditRow.who == "rita")).first()
        assert row is not None
        assert row.address == "192.0.2.7"
    elsewhere = settings.model_copy(update={"web": proxy.model_copy(update={"proxy_addresses": ("192.0.2.1",)})})
    with serving(elsewhere) as client:
        assert client.get("/", headers=reader).status_code == 403
    database.close()


def test_the_command_line_manages_people_and_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RADNODE_DATA", str(tmp_path / "data"))

    def run(*words: str, stdin: str = "", code: int = 0) -> str:
        done = CliRunner().invoke(cli, words, input=stdin)
        assert done.exit_code == code, done.output
        return done.output

    run("users", "add", "anna", "--role", "administrator", "--password-stdin", stdin=f"{PASSWORD}\n")
    run("users", "add", "bob", "--password-stdin", stdin="short\n", code=1)
    assert "anna: administrator, by password" in run("users", "list")
    run("users", "remove", "anna", code=1)
    secret = run("tokens", "add", "prometheus", "--scope", "metrics.read").strip()
    assert secret.startswith("rn_")
    listed = run("tokens", "list")
    assert "metrics.read" in listed
    assert secret not in listed
    run("tokens", "revoke", "prometheus")
    run("tokens", "revoke", "prometheus", code=1)
    told = run("audit", "list")
    assert "radnode users add anna" in told
    assert PASSWORD not in told


def test_who_is_removed_leaves_tokens_and_the_page_and_the_command_say_so(
    here: People, client: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in(client, ADMINISTRATOR)
    assert f"Tokens that {READER} made go on working" in client.post("/users/remove", data={"name": READER}).text
    monkeypatch.setenv("RADNODE_DATA", str(tmp_path / "data"))
    for name in ("anna", "eve"):
        added = ["users", "add", name, "--role", "administrator", "--password-stdin"]
        assert CliRunner().invoke(cli, added, input=f"{PASSWORD}\n").exit_code == 0
    database = Database(f"sqlite:///{tmp_path}/data/radnode.db")
    for name, by in (("one", "anna"), ("two", "eve")):
        accounts_tokens.add(database, name, {accounts_tokens.Scope.API_READ}, by, time.time(), days=1)
    database.close()
    removed = CliRunner().invoke(cli, ["users", "remove", "anna"])
    assert removed.output.endswith("Tokens that anna made go on working until they are revoked: one.\n")


@pytest.mark.parametrize(
    "other",
    ['portal={"a": 1}', "portal[x]=1", "a=b c", "\u00fc=1", 'a="q', "x", "expires=Mon, 1 Jan"],
)
def test_an_odd_cookie_of_another_system_on_the_domain_ends_no_session(client: httpx.Client, other: str) -> None:
    assert sign_in(client, READER).status_code == 303
    session = f"{COOKIE}={client.cookies[COOKIE]}"
    client.cookies.clear()
    for cookie in (f"{other}; {session}; lang=zh-TW", f"lang=zh-TW; {session}; {other}"):
        page = client.get("/", headers={"cookie": cookie.encode("latin-1")})  # type: ignore[dict-item]  # bytes, as sent
        assert page.url.path == "/" and READER in page.text, cookie
        assert '<html lang="zh-TW">' in page.text, cookie


def test_who_was_signed_out_while_writing_is_told_so_on_a_page_and_a_program_in_json(client: httpx.Client) -> None:
    form = {"text": "a long report"}
    page = client.post("/studies/1.2.3/remark", data=form, headers={"accept": "text/html"})
    assert page.status_code == 401 and "What you wrote is not lost" in page.text and 'target="_blank"' in page.text
    program = client.post("/studies/1.2.3/remark", data=form)
    assert program.status_code == 401 and program.json()["detail"] == "Sign in, or show a token."


def test_the_own_password_cannot_be_guessed_without_end_at_a_place_left_open(tmp_path: Path) -> None:
    here = people(tmp_path)
    new = {"password": "something else entirely", "again": "something else entirely"}
    with served(here) as client:
        sign_in(client, READER)
        with here.database.transaction() as session:
            for _ in range(OF_ACCOUNT - 1):
                accounts_sessions.failed(session, READER, "192.0.2.1", time.time())
        assert client.post("/account", data=new | {"before": "the last guess"}).status_code == 422
        assert client.post("/account", data=new | {"before": PASSWORD}).status_code == 429
    here.database.close()


def test_the_first_account_made_on_the_page_is_an_administrators(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)
    database = prepare(settings)
    with serving(settings) as client:
        form = {"name": "rita", "password": PASSWORD, "role": "reader"}
        refused = client.post("/users", data=form)
        assert refused.status_code == 409 and "nobody could manage the node" in refused.text
        assert client.get("/").url.path == "/", "still open: nobody was locked out"
        assert client.post("/users", data=form | {"role": "administrator"}).url.path == "/login"
    database.close()


def test_lines_that_a_proxy_adds_are_believed_and_not_those_of_the_caller_before_them(tmp_path: Path) -> None:
    """HAProxy's `option forwardfor` leaves the caller's X-Forwarded-For and adds one below it."""
    here = people(tmp_path, behind_proxy=True)
    with served(here) as client:
        lines = [("x-forwarded-for", "203.0.113.66"), ("x-forwarded-proto", "http")]
        lines += [("x-forwarded-for", "203.0.113.7, 192.0.2.7"), ("x-forwarded-proto", "https")]
        form = {"name": READER, "password": "not this one"}
        answer = client.post("/login", data=form, headers=[*client.headers.multi_items(), *lines])
        assert (answer.status_code, "strict-transport-security" in answer.headers) == (401, True)
        with here.database.reading() as session:
            assert {row.address for row in session.scalars(select(AuditRow).where(AuditRow.who == READER))} == {
                "192.0.2.7"
            }
    here.database.close()


@pytest.mark.parametrize("name", ["x-forwarded-user", "x-forwarded-groups"])
def test_who_a_proxy_says_is_there_is_nobody_when_the_caller_says_it_too(name: str, tmp_path: Path) -> None:
    proxy = Web(login="off", behind_proxy=True, proxy_administrators=("pacs-admins",))
    settings = Settings(data=tmp_path, web=proxy)
    prepare(settings).close()
    said = [("x-forwarded-user", "rita"), ("x-forwarded-groups", "radiology")]
    with serving(settings) as client:
        assert client.get("/", headers=said).status_code == 200
        assert client.get("/", headers=[(name, "pacs-admins"), *said]).status_code == 401
