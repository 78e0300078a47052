"""Upload to Orthanc by its REST API. The only module that knows orthanc-api-client."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from orthanc_api_client import OrthancApiClient
from orthanc_api_client.exceptions import HttpError, OrthancApiException

from radnode.destinations import Outgoing
from radnode.errors import DeliveryError
from radnode.settings import Destination as Address


class Orthanc:
    """An Orthanc server. Storing an instance that it has already is answered with success."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        self.address = address
        self.timeout_s = timeout_s

    @contextmanager
    def open(self, results: Sequence[Outgoing]) -> Iterator["Upload"]:
        client = OrthancApiClient(
            self.address.url.rstrip("/") + "/", user=self.address.user or None, pwd=self.address.password or None
        )
        try:
            yield Upload(client, self.timeout_s)
        finally:
            client.close()


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


def study_files(url: str, study_uid: str, timeout_s: float) -> Iterator[bytes]:
    """Every object of a study as a DICOM file, one at a time; none where Orthanc does not have it. Raises DeliveryError."""
    client = OrthancApiClient(url.rstrip("/") + "/")
    try:
        found = client.studies.lookup(study_uid)
        for instance in client.studies.get_instances_ids(found) if found else ():
            yield client.get(f"instances/{instance}/file", timeout=timeout_s).content
    except OrthancApiException as e:
        raise DeliveryError(f"Orthanc does not answer: {e.msg}") from e
    finally:
        client.close()


def make(address: Address, *, calling_ae: str, timeout_s: float) -> Orthanc:
    return Orthanc(address, timeout_s)
