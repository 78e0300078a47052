"""sekmet-fhir (PyPI) as the FHIR R4 server of a test: a transaction, a search, an SQLite file of its own."""

import json
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
from support.orthanc import free_ports

START_S = 120.0


class FhirServer:
    """A running server in `folder`; use as a context manager. url: the FHIR base address."""

    def __init__(self, folder: Path) -> None:
        (self.port,) = free_ports(1)
        self.folder = folder
        self.url = f"http://127.0.0.1:{self.port}/fhir"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "FhirServer":
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = {
            "base_url": self.url,
            "host": "127.0.0.1",
            "port": self.port,
            "data_dir": str(self.folder / "data"),
            "own_private_key_path": str(self.folder / "key.pem"),
            "simulator": {"enabled": False},
        }
        file = self.folder / "settings.yaml"
        file.write_text(json.dumps(settings))  # JSON is YAML
        program = Path(sys.executable).with_name("sekmet")
        with (self.folder / "server.log").open("wb") as log:
            self._process = subprocess.Popen(
                [str(program), "serve", "--config", str(file)], cwd=self.folder, stdout=log, stderr=log
            )
        try:
            self._wait(self._process)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            assert process.poll() is None, (self.folder / "server.log").read_text()
            try:
                if httpx.get(f"{self.url}/metadata", timeout=60).is_success:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise AssertionError(f"the FHIR server did not answer within {START_S:.0f} s")

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def search(self, query: str) -> list[dict[str, Any]]:
        """The resources that a search finds."""
        answer = httpx.get(f"{self.url}/{query}", timeout=60)
        answer.raise_for_status()
        return [entry["resource"] for entry in answer.json().get("entry", [])]
