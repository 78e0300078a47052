"""deploy/'s configurations under a real nginx: before a real node with TLS, and before OHIF and a real Orthanc."""

import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser
from support.access import PASSWORD
from support.certificates import Authority
from support.core import encoded
from support.nginx import Nginx, nginx, protocol
from support.node_process import TestNode
from support.objects import dataset_of, image
from support.orthanc import Orthanc
from support.viewers import chromium, viewers

from radnode import accounts, accounts_tokens
from radnode.accounts import Role
from radnode.accounts_tokens import Scope
from radnode.database import Database
from radnode.settings import Settings
from radnode.tables_access import AuditRow

pytestmark = pytest.mark.system

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
NAME = "radnode.example.org"
BOUNDARY = "a-boundary"
RELATED = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
PER_MIN = 150


@dataclass(frozen=True, kw_only=True)
class Front:
    """A node behind nginx. token: of a machine that may do everything that machines may."""

    node: TestNode
    proxy: Nginx
    ca: Path
    token: str

    @property
    def address(self) -> str:
        return f"https://localhost:{self.proxy.ports[443]}"

    def client(self, *, of: str = "127.0.0.2", token: bool = False) -> httpx.Client:
        """A program that calls from the address `of`."""
        headers = {"authorization": f"Bearer {self.token}"} if token else {}
        way = httpx.HTTPTransport(local_address=of, verify=ssl.create_default_context(cafile=self.ca))
        return httpx.Client(base_url=self.address, transport=way, headers=headers, timeout=60)


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp("behind")
    authority = Authority(folder / "certificates")
    pair = authority.issue("proxy")
    with TestNode(
        folder / "node",
        web={"behind_proxy": True, "requests_per_min": PER_MIN},
        work={"processes": 0},
        receive={"processes": 1},
    ) as node:
        database = Database(Settings(data=node.data).url)
        accounts.add(database, "adam", Role.ADMINISTRATOR, PASSWORD, time.time())
        token = accounts_tokens.add(database, "all", set(Scope), "adam", time.time(), days=1)
        database.close()
        changes = {NAME: "localhost", "http://127.0.0.1:8080": f"http://127.0.0.1:{node.web_port}"}
        files = {"radnode.crt": pair.certificate, "radnode.key": pair.key}
        with nginx(DEPLOY / "nginx" / "radnode.conf", changes, files) as proxy:
            yield Front(node=node, proxy=proxy, ca=authority.ca, token=token)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


def send(client: httpx.Client, *objects: bytes) -> None:
    parts = b"".join(f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode() + o + b"\r\n" for o in objects)
    answer = client.post(
        "/dicom-web/studies", content=parts + f"--{BOUNDARY}--\r\n".encode(), headers={"content-type": RELATED}
    )
    assert answer.status_code == 200, answer.text


def test_who_calls_without_tls_is_sent_to_the_name_of_the_node_and_other_names_get_no_answer(front: Front) -> None:
    plain = f"http://localhost:{front.proxy.ports[80]}"
    assert httpx.get(f"{plain}/studies", timeout=60).headers["location"] == "https://localhost/studies"
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(plain, headers={"host": "elsewhere.example"}, timeout=60)
    with front.client() as client:
        assert client.get("/login", headers={"host": "elsewhere.example"}).status_code == 421
    assert protocol(front.proxy.ports[443], front.ca) == "h2"


def test_what_the_caller_says_of_itself_is_not_believed_and_no_header_comes_twice(front: Front) -> None:
    said = {"x-forwarded-for": "203.0.113.66", "x-forwarded-proto": "http", "forwarded": "for=203.0.113.66"}
    said |= {"x-forwarded-user": "adam", "x-forwarded-groups": "admins", "origin": front.address}
    with front.client(of="127.0.0.3") as client:
        assert client.get("/users", headers=said).headers["location"] == "/login?next=/users"
        answer = client.post("/login", data={"name": "adam", "password": "not this one"}, headers=said)
    assert answer.status_code == 401
    assert "max-age" in answer.headers["strict-transport-security"]
    assert {name for name in answer.headers if len(answer.headers.get_list(name)) > 1} == set()
    failed = [row for row in front.node.rows(AuditRow) if row.address == "127.0.0.3"]
    assert [row.who for row in failed] == ["adam"]
    assert {row.address for row in front.node.rows(AuditRow)} <= {"127.0.0.1", "127.0.0.2", "127.0.0.3", ""}


def test_who_asks_too_often_is_one_browser_and_not_the_proxy(front: Front) -> None:
    with front.client(of="127.0.0.9") as client, front.client(of="127.0.0.8") as other:
        answers = [
            client.get("/fhir/metadata").status_code for _ in range(2 * PER_MIN + 1)
        ]  # the minute may change once
        assert answers.count(429) > 0
        assert other.get("/login").status_code == 200


def test_a_form_of_another_site_changes_nothing(front: Front) -> None:
    with front.client() as client:
        form = {"name": "adam", "password": PASSWORD}
        signed = client.post("/login", data=form, headers={"origin": front.address})
        assert signed.headers["set-cookie"].startswith("__Host-radnode=")
        assert client.get("/account").status_code == 200
        assert client.post("/logout", headers={"origin": "https://elsewhere.example"}).status_code == 403
        assert client.post("/logout", headers={"origin": front.address}).status_code == 303


def test_images_pass_through_and_lie_in_no_file_of_the_proxy(front: Front) -> None:
    before = (front.proxy.folder / "client_body").stat().st_mtime_ns
    objects = [encoded(image(size=1024, seed=n, StudyInstanceUID="1.2.3.4")) for n in range(8)]
    with front.client(token=True) as client:
        send(client, *objects)
    kept = front.node.stored("1.2.3.4").values()
    assert {dataset_of(file) for file in kept} == {dataset_of(file) for file in objects}
    assert (front.proxy.folder / "client_body").stat().st_mtime_ns == before, "a file came or went"


def test_metrics_are_not_for_everybody_who_has_the_token(front: Front) -> None:
    with front.client(token=True) as client:
        assert client.get("/metrics").status_code == 403
    direct = httpx.get(
        f"http://127.0.0.1:{front.node.web_port}/metrics",
        headers={"authorization": f"Bearer {front.token}"},
        timeout=60,
    )
    assert "radnode_results_owed" in direct.text


def test_no_log_of_the_proxy_holds_what_was_searched_for(front: Front, tmp_path: Path) -> None:
    with front.client(token=True) as client:
        assert client.get("/fhir/Patient", params={"name": "Mustermann"}).status_code == 200
    dead = {NAME: "localhost", "http://127.0.0.1:8080": "http://127.0.0.1:9"}
    files = {f"radnode.{end}": front.proxy.folder / f"radnode.{end}" for end in ("crt", "key")}
    with nginx(DEPLOY / "nginx" / "radnode.conf", dead, files) as alone:
        url = f"https://localhost:{alone.ports[443]}/fhir/Patient?name=Mustermann"
        assert httpx.get(url, verify=ssl.create_default_context(cafile=front.ca), timeout=60).status_code == 502
        for proxy in (front.proxy, alone):
            logs = "".join(f.read_text() for f in proxy.folder.glob("*.log"))
            assert "GET /fhir/Patient" in logs
            assert "Mustermann" not in logs


def test_a_browser_signs_in_and_sees_a_new_study_without_asking_again(front: Front, browser: Browser) -> None:
    with browser.new_context(ignore_https_errors=True) as context, front.client(token=True) as scanner:
        page = context.new_page()
        page.goto(front.address)
        page.fill("[name=name]", "adam")
        page.fill("[name=password]", PASSWORD)
        page.click("form.fields button")
        page.locator("#filter").wait_for()
        (cookie,) = context.cookies()
        assert (cookie["name"], cookie["secure"], cookie["httpOnly"]) == ("__Host-radnode", True, True)
        send(scanner, encoded(image(PatientName="News^Through", StudyInstanceUID="1.2.3.5")))
        page.get_by_text("News").first.wait_for(timeout=60_000)


def test_ohif_and_orthanc_are_one_site_by_the_front_of_the_compose_file(tmp_path: Path, browser: Browser) -> None:
    folder = DEPLOY / "compose"
    files = [
        encoded(image(size=1024, seed=n, StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.3.1")) for n in range(12)
    ]
    with Orthanc(tmp_path / "pacs") as pacs, viewers(pacs) as viewer:
        for file in files:
            pacs.upload(file)
        changes = {"http://orthanc:8042": pacs.url, "http://viewer:80": viewer}
        with nginx(folder / "front.conf", changes, {"ohif.js": folder / "ohif.js"}) as proxy:
            address = f"http://127.0.0.1:{proxy.ports[80]}"
            everything = 'multipart/related; type="application/dicom"; transfer-syntax=*'
            whole = httpx.get(f"{address}/dicom-web/studies/1.2.3", headers={"accept": everything}, timeout=60)
            assert [file in whole.content for file in files] == [True] * len(files)
            (found,) = httpx.get(
                f"{address}/dicom-web/studies", headers={"accept": "application/dicom+json"}, timeout=60
            ).json()
            assert found["00081190"]["Value"] == [f"{address}/dicom-web/studies/1.2.3"]
            assert httpx.get(f"{address}/app-config.js", timeout=60).text == (folder / "ohif.js").read_text()
            page = browser.new_page()
            page.goto(address)
            page.get_by_text("Test, Object").or_(page.get_by_text("Test^Object")).first.wait_for(timeout=60_000)
            assert page.evaluate("window.crossOriginIsolated") is True
            assert page.evaluate("window.config.defaultDataSourceName") == "orthanc"
            page.close()
            assert "1.2.3" not in "".join(f.read_text() for f in proxy.folder.glob("*.log"))
