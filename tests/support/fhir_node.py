"""The node's own FHIR endpoint as the server of a test, on a real socket."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from support.pages import serving

from radnode import start
from radnode.settings import Fhir, Settings


@dataclass(frozen=True, kw_only=True)
class FhirNode:
    """url: the FHIR base address."""

    url: str
    client: httpx.Client
    settings: Settings

    def search(self, query: str) -> list[dict[str, Any]]:
        """The resources that a search finds."""
        answer = self.client.get(f"/fhir/{query}")
        assert answer.is_success, answer.text
        return [entry["resource"] for entry in answer.json().get("entry", [])]


@contextmanager
def fhir_node(folder: Path, hooks: tuple[str, ...] = (), **more: Any) -> Iterator[FhirNode]:
    settings = Settings(data=folder, fhir=Fhir(hooks=hooks), **more)
    start.prepare(settings)
    with serving(settings) as client:
        client.timeout = httpx.Timeout(60.0)  # a busy machine is no reason to fail
        yield FhirNode(url=str(client.base_url.join("/fhir")), client=client, settings=settings)
