"""FHIR R4 REST: each result is one transaction Bundle, POSTed to the base address (http://hl7.org/fhir/R4/http.html#transaction).

Where the settings ask for it, a changed priority goes to the server's own order: see `fhir_rest_priority`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx
import orjson

from radnode.destinations import PRIORITY, Outgoing
from radnode.destinations.fhir_rest_auth import client
from radnode.destinations.fhir_rest_lookup import linked
from radnode.destinations.fhir_rest_priority import NothingToChangeError, changed
from radnode.destinations.fhir_rest_subject import followed
from radnode.errors import DeliveryError
from radnode.settings import Destination as Address

HEADERS = {"Content-Type": "application/fhir+json", "Accept": "application/fhir+json"}
MAY_PASS = frozenset({401, 403, 404, 408, 409, 425, 429})
"""4xx answers that another try can change: an administrator puts access or address right, a conflict or a rush passes."""


class FhirServer:
    def __init__(self, address: Address, timeout_s: float) -> None:
        self.address = address
        self.timeout_s = timeout_s

    @contextmanager
    def open(self, results: Sequence[Outgoing]) -> Iterator["Transactions"]:
        with client(self.address, self.timeout_s) as http:
            yield Transactions(http, self.address)


class Transactions:
    def __init__(self, client: httpx.Client, address: Address) -> None:
        self.client = client
        self.address = address
        self.url = address.url.rstrip("/")

    def send(self, result: Outgoing) -> str:
        if result.kind == PRIORITY:
            return self.tell_priority(orjson.loads(result.path.read_bytes()))
        systems = {"patient_system": self.address.patient_system, "order_system": self.address.order_system}
        bundle, remark = linked(orjson.loads(result.path.read_bytes()), self.search, **systems), ""
        if result.kind == "fhir":  # a note speaks of what was sent, as it was
            bundle, remark = followed(bundle, self.search)
        versions = any("ifMatch" in entry["request"] for entry in bundle["entry"])
        self.post(bundle, may_pass=MAY_PASS | ({412} if versions else set()))  # 412: somebody changed it meanwhile
        return remark

    def tell_priority(self, notice: dict[str, Any]) -> str:
        """Change the priority of the server's own order; the remark where there is nothing to change."""
        try:
            change = changed(notice, self.search, order_system=self.address.order_system)
        except NothingToChangeError as e:
            return f"Nothing was changed: {e}."
        self.post(change, may_pass=MAY_PASS | {412})  # 412: somebody changed the order meanwhile
        return ""

    def post(self, bundle: dict[str, Any], may_pass: frozenset[int] = MAY_PASS) -> None:
        """One transaction. may_pass: 4xx answers after which it is tried again. Raises DeliveryError."""
        try:
            answer = self.client.post(self.url, content=orjson.dumps(bundle), headers=HEADERS)
        except httpx.HTTPError as e:
            raise DeliveryError(f"{self.url} does not answer: {type(e).__name__}") from e
        if not answer.is_success:
            permanent = 400 <= answer.status_code < 500 and answer.status_code not in may_pass
            sentence = f"FHIR server answered {answer.status_code}"
            raise DeliveryError(sentence, permanent=permanent, quoted=outcome(answer))
        check_entries(answer, may_pass)

    def search(self, query: str) -> list[dict[str, Any]]:
        """What the server finds; nothing where it will not be asked. Raises DeliveryError when that may pass."""
        try:
            answer = self.client.get(f"{self.url}/{query}", headers=HEADERS)
        except httpx.HTTPError as e:
            raise DeliveryError(f"{self.url} does not answer: {type(e).__name__}") from e
        if answer.status_code in (401, 408, 425, 429) or answer.status_code >= 500:
            raise DeliveryError(f"FHIR server answered {answer.status_code} to a search", quoted=outcome(answer))
        try:
            entries = answer.json().get("entry", ()) if answer.is_success else ()
            return [e["resource"] for e in entries if e.get("search", {}).get("mode", "match") == "match"]
        except (ValueError, KeyError, TypeError, AttributeError):
            return []


def check_entries(answer: httpx.Response, may_pass: frozenset[int] = MAY_PASS) -> None:
    """Every entry of the transaction-response must say 2xx. Raises DeliveryError for the first that does not."""
    try:
        entries = answer.json()["entry"]
        statuses = [str(entry["response"]["status"]) for entry in entries]
    except (ValueError, KeyError, TypeError) as e:
        raise DeliveryError("the answer is not a transaction-response Bundle") from e
    for number, status in enumerate(statuses):
        if not status.startswith("2"):
            permanent = status.startswith("4") and status[:3] not in {str(s) for s in may_pass}
            sentence = f"entry {number} of the transaction was answered {status[:3]}"
            raise DeliveryError(sentence, permanent=permanent, quoted=status[3:].strip())


def outcome(answer: httpx.Response) -> str:
    """What an OperationOutcome says, shortened; "" when there is none."""
    try:
        issue: dict[str, Any] = answer.json()["issue"][0]
        words = issue.get("diagnostics") or issue.get("details", {}).get("text") or issue.get("code", "")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return ""
    return str(words)


def make(address: Address, *, calling_ae: str, timeout_s: float) -> FhirServer:
    return FhirServer(address, timeout_s)
