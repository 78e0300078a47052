"""The way to a FHIR server: the patient and the order it knows, and how the node shows who it is."""

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx
import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from support.fhir_server import FhirServer
from support.findings import Scene, findings, lesion, scene

from radnode import check
from radnode.destinations import open_destination
from radnode.destinations.fhir_rest_lookup import linked
from radnode.errors import DeliveryError
from radnode.settings import Destination, Settings
from radnode_fhir.bundle import transaction

HOSPITAL = "urn:oid:1.2.3"
ISSUED = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
KEYS = {"RS384": rsa.generate_private_key(65537, 2048), "ES384": ec.generate_private_key(ec.SECP384R1())}


class Sent:
    """A result on its way."""

    study_uid, kind, uid, sop_class_uid = "1.2.3", "fhir", "2.25.1", ""

    def __init__(self, path: Path) -> None:
        self.path = path


def send(address: Destination, bundle: Any, folder: Path) -> None:
    file = folder / "bundle.json"
    file.write_text(json.dumps(bundle))
    with open_destination(address, calling_ae="N", timeout_s=60).open([]) as sender:
        sender.send(Sent(file))


@pytest.fixture
def bundle(tmp_path: Path) -> dict[str, Any]:
    place: Scene = scene(tmp_path / "source", shape=(2, 8, 8))
    return transaction(
        findings(place, (lesion(place, "a", (0, 0, 0), 2),)), place.study, (), status="preliminary", issued=ISSUED
    )


def patient(value: str = "PID-7", system: str = HOSPITAL) -> dict[str, Any]:
    return {"resourceType": "Patient", "identifier": [{"system": system, "value": value}]}


@pytest.mark.system
def test_the_server_s_own_patient_and_order_are_found_and_none_is_made(tmp_path: Path, bundle: dict[str, Any]) -> None:
    with FhirServer(tmp_path / "server") as server:
        address = Destination(name="ris", kind="fhir", url=server.url, patient_system=HOSPITAL)
        send(address, bundle, tmp_path)
        (report,) = server.search("DiagnosticReport")
        assert "reference" not in report["subject"] and report["subject"]["identifier"]["value"] == "PID-7"
        known = httpx.post(f"{server.url}/Patient", json=patient(), timeout=60).json()["id"]
        order = {
            "resourceType": "ServiceRequest",
            "status": "active",
            "intent": "order",
            "subject": {"reference": f"Patient/{known}"},
            "identifier": [{"system": "urn:orders", "value": "A123"}],
        }
        placed = httpx.post(f"{server.url}/ServiceRequest", json=order, timeout=60).json()["id"]
        send(address, bundle, tmp_path)
        (report,) = server.search(f"DiagnosticReport?subject=Patient/{known}&based-on=ServiceRequest/{placed}")
        assert report["subject"]["identifier"]["value"] == "PID-7"
        assert [len(server.search(k)) for k in ("Patient", "ServiceRequest", "DiagnosticReport")] == [1, 1, 1]


def links(bundle: dict[str, Any], answers: dict[str, list[dict[str, Any]]], **systems: str) -> list[str]:
    """What the report's patient and order are linked to, by a server that answers so."""
    made = linked(bundle, lambda query: answers.get(query.split("?")[0], []), **systems)
    (said,) = (e["resource"] for e in made["entry"] if e["resource"]["resourceType"] == "DiagnosticReport")
    return [str(r.get("reference", "")) for r in (said["subject"], said["basedOn"][0])]


def test_no_patient_is_linked_by_a_value_that_may_be_another_s(bundle: dict[str, Any]) -> None:
    ours, another = patient() | {"id": "p"}, patient("PID-8") | {"id": "q"}
    order = {"resourceType": "ServiceRequest", "id": "o", "subject": {"reference": "Patient/p"}}
    system = {"patient_system": HOSPITAL}
    assert links(bundle, {"Patient": [ours], "ServiceRequest": [order]}, **system) == ["Patient/p", "ServiceRequest/o"]
    assert links(bundle, {"Patient": [ours]}, **system) == ["Patient/p", ""]
    assert links(bundle, {"Patient": [ours]}) == ["", ""], "a value without a system"
    assert links(bundle, {"Patient": [ours], "ServiceRequest": [order]}) == ["Patient/p", "ServiceRequest/o"]
    assert links(bundle, {"Patient": [another], "ServiceRequest": [order]}) == ["", ""], (
        "the order is of another patient"
    )
    assert links(bundle, {"Patient": [ours, another], "ServiceRequest": [order]}, **system) == ["", ""]
    elsewhere = order | {"subject": {"reference": "Patient/z"}}
    assert links(bundle, {"Patient": [ours], "ServiceRequest": [elsewhere]}, **system) == ["Patient/p", ""]


class Guarded(HTTPServer):
    """A token endpoint that checks the assertion, and a FHIR server that wants the token it gave."""

    def __init__(self, public: Any, algorithm: str) -> None:
        self.claims: dict[str, Any] = {}
        guarded = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                known = self.path != "/metadata" or self.headers["Authorization"] == "Bearer secret"
                self.answer(200 if known else 401, {"resourceType": "Bundle"})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                if self.path == "/token":
                    form = {k: v[0] for k, v in parse_qs(body).items()}
                    guarded.claims = jwt.decode(
                        form["client_assertion"], public, algorithms=[algorithm], audience=f"{guarded.url}/token"
                    )
                    assert (form["grant_type"], form["scope"]) == ("client_credentials", "system/*.cruds")
                    assert "Authorization" not in self.headers
                    self.answer(200, {"access_token": "given", "token_type": "bearer", "expires_in": 300})
                elif self.headers["Authorization"] in ("Bearer given", "Bearer secret"):
                    entries = [{"response": {"status": "201"}} for _ in json.loads(body)["entry"]]
                    self.answer(200, {"resourceType": "Bundle", "type": "transaction-response", "entry": entries})
                else:
                    self.answer(401, {})

            def answer(self, status: int, body: Any) -> None:
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://localhost:{self.server_port}"


@contextmanager
def serving(server: HTTPServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join(60)
        server.server_close()


def pem(key: Any) -> bytes:
    kind = serialization.PrivateFormat.PKCS8
    made: bytes = key.private_bytes(serialization.Encoding.PEM, kind, serialization.NoEncryption())
    return made


@pytest.mark.parametrize("algorithm", ["RS384", "ES384"])
def test_a_token_is_asked_for_with_a_signed_assertion(tmp_path: Path, bundle: dict[str, Any], algorithm: str) -> None:
    key = KEYS[algorithm]
    (tmp_path / "key.pem").write_bytes(pem(key))
    server = Guarded(key.public_key(), algorithm)
    with serving(server):
        address = Destination(
            name="ris", kind="fhir", url=server.url, token_url=f"{server.url}/token",
            client_id="radnode", client_key=f"file:{tmp_path / 'key.pem'}", key_id="k1",
        )  # fmt: skip
        send(address, bundle, tmp_path)
        assert (server.claims["iss"], server.claims["sub"]) == ("radnode", "radnode")
        assert server.claims["jti"] and server.claims["exp"] - datetime.now(UTC).timestamp() < 301
        with pytest.raises(DeliveryError, match="401") as e:
            send(Destination(name="ris", kind="fhir", url=server.url), bundle, tmp_path)
        assert not e.value.permanent


def test_a_bearer_token_comes_from_the_environment_and_never_from_the_settings(
    tmp_path: Path, bundle: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Guarded(None, "")
    with serving(server):
        address = Destination(name="ris", kind="fhir", url=server.url, token="env:RIS_TOKEN")
        with pytest.raises(DeliveryError, match="RIS_TOKEN is not set"):
            send(address, bundle, tmp_path)
        monkeypatch.setenv("RIS_TOKEN", "secret")
        send(address, bundle, tmp_path)
        with pytest.raises(DeliveryError, match="file:PATH or env:NAME") as e:
            send(address.model_copy(update={"token": "secret"}), bundle, tmp_path)
        assert "secret'" not in str(e.value)


def certificate(folder: Path, name: str, key: Any) -> Path:
    """A self-signed certificate for localhost; its key beside it."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    made = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    (folder / f"{name}.key").write_bytes(pem(key))
    (folder / f"{name}.crt").write_bytes(made)
    return folder / f"{name}.crt"


def test_a_server_that_wants_a_certificate_gets_it(
    tmp_path: Path, bundle: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RIS_TOKEN", "secret")
    theirs, ours = certificate(tmp_path, "server", KEYS["RS384"]), certificate(tmp_path, "client", KEYS["ES384"])
    wanted = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ours)
    wanted.load_cert_chain(theirs, tmp_path / "server.key")
    wanted.verify_mode = ssl.CERT_REQUIRED
    server = Guarded(None, "")
    server.socket = wanted.wrap_socket(server.socket, server_side=True)
    with serving(server):
        plain = Destination(name="ris", kind="fhir", url=server.url.replace("http", "https"), token="env:RIS_TOKEN")
        known = plain.model_copy(update={"ca": theirs})
        sure = known.model_copy(update={"certificate": ours, "certificate_key": tmp_path / "client.key"})
        send(sure, bundle, tmp_path)
        assert check.reach(sure, Settings()).ok
        assert not check.reach(sure.model_copy(update={"token": ""}), Settings()).ok
        for refused in (plain, known):
            assert not check.reach(refused, Settings()).ok
            with pytest.raises(DeliveryError, match="does not answer"):
                send(refused, bundle, tmp_path)
