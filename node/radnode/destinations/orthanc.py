"""Orthanc's REST API: results are uploaded, studies fetched. The only module that knows orthanc-api-client."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import httpx
from orthanc_api_client import OrthancApiClient
from orthanc_api_client.exceptions import HttpError, OrthancApiException

from radnode.destinations import Outgoing
from radnode.destinations.web_client import WebAddress, ask, client
from radnode.errors import DeliveryError
from radnode.settings import Destination as Address


class Orthanc:
    """An Orthanc server. Storing an instance that it has already is answered with success."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        self.address = address
        self.timeout_s = timeout_s

    @contextmanager
    def open(self, results: Sequence[Outgoing]) -> Iterator["Upload"]:
        server = OrthancApiClient(
            self.address.url.rstrip("/") + "/", user=self.address.user or None, pwd=self.address.password or None
        )
        try:
            yield Upload(server, self.timeout_s)
        finally:
            server.close()


class Upload:
    def __init__(self, client: OrthancApiClient, timeout_s: float) -> None:
        self.client = client
        self.timeout_s = timeout_s

    def send(self, result: Outgoing) -> str:
        """`permanent` for 400 (not a DICOM file Orthanc can read) and 413; a wrong password or address can be put right."""
        try:
            answer = self.client.post("instances", data=result.path.read_bytes(), timeout=self.timeout_s).json()
        except HttpError as e:
            raise DeliveryError(
                f"Orthanc answered {e.http_status_code}", permanent=e.http_status_code in (400, 413)
            ) from e
        except OrthancApiException as e:
            raise DeliveryError(f"Orthanc does not answer: {e.msg}") from e
        except ValueError as e:
            raise DeliveryError("the answer is not Orthanc's") from e
        status = answer.get("Status") if isinstance(answer, dict) else None
        if status not in ("Success", "AlreadyStored"):
            raise DeliveryError("Orthanc did not store it", quoted=str(status))
        return "was there already" if status == "AlreadyStored" else ""


def study_files(at: WebAddress, study_uid: str, timeout_s: float) -> Iterator[bytes]:
    """Every object of a study as a DICOM file, one at a time; none where Orthanc does not have it. Raises DeliveryError."""
    with client(at, timeout_s) as http:
        try:
            found = ask(http, "POST", "/tools/lookup", content=study_uid).json()
            studies = [f["ID"] for f in found if f["Type"] == "Study"]
            objects = [i["ID"] for s in studies for i in ask(http, "GET", f"/studies/{s}/instances").json()]
        except (ValueError, KeyError, TypeError) as e:
            raise DeliveryError("the answer is not Orthanc's") from e
        for instance in objects:
            yield ask(http, "GET", f"/instances/{instance}/file").content


def version(http: httpx.Client) -> str:
    """Which Orthanc this is. Raises DeliveryError."""
    try:
        return str(ask(http, "GET", "/system").json()["Version"])
    except (ValueError, KeyError, TypeError) as e:
        raise DeliveryError("the answer is not Orthanc's") from e


def make(address: Address, *, calling_ae: str, timeout_s: float) -> Orthanc:
    return Orthanc(address, timeout_s)
