"""Ask a peer what it has: by C-FIND, or by QIDO-RS where it is reached over the web alone."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from radnode.addresses import address_of
from radnode.destinations.dimse_find import Found, finding
from radnode.destinations.web_client import WebAddress
from radnode.destinations.web_find import WebFinder
from radnode.peers.table import Peer
from radnode.settings import Settings


class Finder(Protocol):
    """An open way to ask."""

    def studies(self, **keys: str) -> tuple[Found, ...]:
        """The studies that match DICOM keywords. Raises DeliveryError."""
        ...

    def series(self, study_uid: str) -> Mapping[str, int | None]:
        """Series Instance UID -> how many images it has. Raises DeliveryError."""
        ...

    def images(self, study_uid: str, series_uid: str) -> int | None:
        """How many objects of a series it lists, each once; None where that cannot be said. Raises DeliveryError."""
        ...


@contextmanager
def querying(peer: Peer, settings: Settings, timeout_s: float) -> Iterator[Finder]:
    """A way to ask this peer. Raises DeliveryError when there is none."""
    if peer.way == "wado":
        with WebFinder(web_address(peer, settings), timeout_s) as finder:
            yield finder
        return
    with finding(address_of(peer, settings), calling_ae=settings.receive.ae_title, timeout_s=timeout_s) as associated:
        yield associated


def web_address(peer: Peer, settings: Settings) -> WebAddress:
    """Where and as whom a peer is called over the web."""
    return WebAddress(url=peer.url, user=peer.user, password=peer.password, token=peer.token, own=settings.tls)
