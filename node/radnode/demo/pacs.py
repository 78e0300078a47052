"""Debian's Orthanc as a PACS of one's own: for the demo, the tests and the benchmarks. Never for patients.

Knows nothing of the node; the peer that it starts is stopped by it, and no other.
"""

import json
import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
AE_TITLE = "PACS"
NODE = "node"  # the name under which Orthanc knows the node
START_S = 120.0  # on a machine that is busy with other things


class PacsError(Exception):
    """Orthanc is not installed, or did not start; the message says which and why."""


def program() -> str | None:
    """Where Orthanc is installed, or None."""
    found = shutil.which("Orthanc", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    return found if found and PLUGIN.is_file() else None


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago: asked of the system all at once, so that they differ."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [int(s.getsockname()[1]) for s in sockets]
    finally:
        for s in sockets:
            s.close()


def configuration(name: str, folder: Path, http_port: int, dicom_port: int) -> dict[str, object]:
    """The settings of an Orthanc that serves this machine only and takes whatever it is sent."""
    allowed = {f"DicomAlwaysAllow{what}": True for what in ("Echo", "Store", "Find", "Move", "Get")}
    return allowed | {
        "Name": name,
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "Plugins": [str(PLUGIN)],
        "HttpPort": http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAet": AE_TITLE,
        "DicomCheckCalledAet": False,
        "DicomPort": dicom_port,
        "DicomScuTimeout": 60,
        "DicomScpTimeout": 120,
        "UnknownSopClassAccepted": True,
        "OverwriteInstances": True,
        "StableAge": 2,
        "SaveJobs": False,
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "StudiesMetadata": "Full", "SeriesMetadata": "Full"},
    }


class Orthanc:
    """A running Orthanc in `folder`; use as a context manager.

    more: settings that replace its own; user: the name and password that these ask for. url: its HTTP address without a slash at the end. dicom_port, ae_title: for C-STORE to it. pid: its process.
    The database stays in `folder`, so `stop` and `start` again is a PACS that was away for a while, on the same ports.
    """

    ae_title = AE_TITLE

    def __init__(
        self, folder: Path, more: Mapping[str, object] | None = None, user: tuple[str, str] | None = None
    ) -> None:
        self.more = dict(more or {})
        self.folder = folder
        self.http_port, self.dicom_port = free_ports(2)
        self.url = f"http://127.0.0.1:{self.http_port}"
        # no connection is used twice: Orthanc ends idle ones, now and then just as the next request leaves
        each = httpx.Limits(max_keepalive_connections=0)
        self.http = httpx.Client(base_url=self.url, timeout=60.0, limits=each, auth=user)
        self._name = f"radnode-{uuid.uuid4().hex[:12]}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Orthanc":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self.http.close()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def log(self) -> str:
        """The last 4,000 characters that Orthanc wrote."""
        file = self.folder / "orthanc.log"
        return file.read_text(errors="replace")[-4000:] if file.exists() else ""

    def start(self) -> None:
        """Start it and wait until it answers under its own name. Raises PacsError."""
        found = program()
        if found is None:
            raise PacsError("Orthanc is not installed: apt-get install orthanc orthanc-dicomweb")
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = self.folder / "orthanc.json"
        own = configuration(self._name, self.folder, self.http_port, self.dicom_port)
        settings.write_text(json.dumps(own | self.more))
        with (self.folder / "orthanc.log").open("ab") as log:
            self._process = subprocess.Popen(
                [found, str(settings)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | {"TCP_NODELAY": "1"},  # DCMTK inside it: no 45 ms pause per image on loopback
                start_new_session=True,
            )
        try:
            self._wait(self._process)
        except PacsError:
            self.stop()
            raise

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            if process.poll() is not None:
                raise PacsError(f"Orthanc ended with {process.returncode} at its start:\n{self.log}")
            try:
                if self.http.get("/system").json().get("Name") == self._name:
                    return
                raise PacsError(f"another program answers on port {self.http_port}")
            except (httpx.TransportError, ValueError):
                time.sleep(0.1)
        raise PacsError(f"Orthanc did not answer within {START_S:.0f} s:\n{self.log}")

    def stop(self) -> None:
        """End it and wait; nothing when it does not run."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def know_node(self, port: int, ae_title: str = "RADNODE") -> None:
        """Tell it where the node listens, so that `send_to_node` works."""
        answer = self.http.put(f"/modalities/{NODE}", json={"AET": ae_title, "Host": "127.0.0.1", "Port": port})
        answer.raise_for_status()

    def upload(self, file: bytes) -> str:
        """Store a DICOM file over REST; the answer is Orthanc's own id of the instance."""
        answer = self.http.post("/instances", content=file, headers={"Content-Type": "application/dicom"})
        answer.raise_for_status()
        return str(answer.json()["ID"])

    def send_to_node(self, study_uid: str) -> None:
        """C-STORE every object of a study from Orthanc to the node; returns when all were answered."""
        answer = self.http.post(f"/modalities/{NODE}/store", json={"Resources": [self.study_id(study_uid)]})
        if answer.is_error or answer.json().get("FailedInstancesCount"):
            raise PacsError(f"Orthanc could not send {study_uid}: {answer.text}")

    def study_id(self, study_uid: str) -> str:
        """Orthanc's own id of a study. Raises PacsError when it is not there."""
        found = self.find("Study", StudyInstanceUID=study_uid)
        if len(found) != 1:
            raise PacsError(f"{len(found)} studies in Orthanc have the UID {study_uid}")
        return str(found[0]["ID"])

    def forget(self, study_uid: str) -> None:
        """Delete a study, if it is there."""
        for study in self.find("Study", StudyInstanceUID=study_uid):
            self.http.delete(f"/studies/{study['ID']}").raise_for_status()

    def find(self, level: str, **query: str) -> list[dict[str, Any]]:
        """Orthanc's own search at "Study", "Series" or "Instance" level by DICOM keywords, every match expanded."""
        answer = self.http.post("/tools/find", json={"Level": level, "Query": query, "Expand": True})
        answer.raise_for_status()
        return list(answer.json())

    def qido(self, path: str, **query: str) -> list[dict[str, Any]]:
        """QIDO-RS (PS3.18 section 10.6): `path` is "studies", "studies/UID/instances" and so on; DICOM JSON objects."""
        answer = self.http.get(f"/dicom-web/{path}", params=query, headers={"Accept": "application/dicom+json"})
        answer.raise_for_status()
        return list(answer.json()) if answer.content else []

    def files(self, study_uid: str) -> dict[str, bytes]:
        """Every object of a study as it stands in the PACS: SOP Instance UID -> the file. {} when there is no such study."""
        instances = self.find("Instance", StudyInstanceUID=study_uid)
        return {
            str(i["MainDicomTags"]["SOPInstanceUID"]): self.http.get(f"/instances/{i['ID']}/file").content
            for i in instances
        }
