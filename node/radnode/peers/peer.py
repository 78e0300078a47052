"""What is known of a DICOM system beside the node, and what makes a peer that can be meant. Knows no table and no settings."""

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

RIGHTS = ("send", "query", "retrieve", "commit", "worklist", "results")
PROFILE = ("sr", "seg", "key-image", "parametric-map", "pdf", "kos", "rtstruct", "status")
"""The kinds of results that a PACS can take."""
WAYS = ("move", "get", "wado", "orthanc")
WEB = frozenset({"wado", "orthanc"})
HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,62}))*\.?")
"""A host name (RFC 1123); underscores as Docker and Windows have them."""
REFERENCES = ("file:", "env:")
LONGEST_QUIET_S = 86_400.0


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A DICOM system. Empty `ae_title` or `address` matches any; `port` is where it listens, if it does.

    address: from where it may call, an IP address or a network. host: where it is called, a name or an IP address; its
    certificate must be for it. Without one, it is called at `address` where that is a single one.
    may: send (C-STORE to the node), query and retrieve (by the node), commit (ask the node for storage commitment),
    worklist (ask the node for the order to read in), results (they are sent to it by C-STORE, where it is called; profile:
    which kinds of them, empty: what it takes). tls: in both directions; whoever comes as this peer in the clear is
    refused. certificate_name: what the certificate must be for that it comes with, its common name or one of its others.
    way: how studies are fetched from it; url: of its DICOMweb (wado) or of Orthanc, with `user` and `password`, or `token`;
    the last two are "file:PATH" or "env:NAME", never a secret. Raises ValueError for what is no peer.
    """

    name: str
    ae_title: str = ""
    address: str = ""
    host: str = ""
    port: int | None = None
    quiet_s: float | None = None
    may: tuple[str, ...] = ("send",)
    profile: tuple[str, ...] = ()
    way: str = "move"
    url: str = ""
    user: str = ""
    password: str = ""
    token: str = ""
    tls: bool = False
    certificate_name: str = ""
    from_settings: bool = False

    def __post_init__(self) -> None:
        check_places(self.address, self.host, self.url)
        check_secrets(self.user, self.password, self.token)
        if self.quiet_s is not None and not 0 <= self.quiet_s <= LONGEST_QUIET_S:
            raise ValueError("a quiet time lasts from 0 s to a day: a study of this peer would never be complete")
        if self.certificate_name and not self.tls:
            raise ValueError("a peer whose certificate is looked at comes over TLS: set tls as well")
        if self.gets_results and not self.called_at:
            raise ValueError("a peer that gets results has a single place to call: host, or one address, and port")
        if self.profile and not self.gets_results:
            raise ValueError("a profile of results is for a peer that gets results: it lacks the right results")

    @property
    def gets_results(self) -> bool:
        """Whether it is a destination."""
        return "results" in self.may

    @property
    def called_at(self) -> str:
        """Where it can be called by DICOM; "" when there is no single place."""
        return "" if self.port is None else self.host or ("" if "/" in self.address else self.address)

    @property
    def as_caller(self) -> frozenset[str]:
        """What it may do by calling the node. Of what is fetched, only that by C-MOVE comes by a call of the peer's own."""
        rights = frozenset(self.may) - {"query", "results"}
        return rights if self.way == "move" else rights - {"retrieve"}

    @property
    def is_anybody(self) -> bool:
        """Whether every caller from anywhere is this peer, and may do something by that."""
        return not (self.ae_title or self.address or self.certificate_name) and bool(self.as_caller)

    def matches(self, calling_ae: str, address: str) -> bool:
        return self.matches_ae(calling_ae) and self.matches_address(address)

    def matches_ae(self, calling_ae: str) -> bool:
        return not self.ae_title or self.ae_title.strip() == calling_ae.strip()

    def matches_address(self, address: str) -> bool:
        if not self.address:
            return True
        try:
            return plain_address(address) in ipaddress.ip_network(self.address, strict=False)
        except ValueError:
            return False


def check_places(address: str, host: str, url: str) -> None:
    """Raises ValueError in words for what is no address of callers, no place to call or no web address."""
    if address:
        try:
            ipaddress.ip_network(address, strict=False)
        except ValueError as e:
            why = f"{address!r} is neither an IP address nor a network such as 10.1.0.0/16 (a name goes into host)"
            raise ValueError(why) from e
    if host and not is_host(host):
        raise ValueError(f"{host!r} is neither a host name nor an IP address")
    if url:
        parts = urlsplit(url)  # ValueError for a bracket that is not closed
        if "@" in parts.netloc:
            raise ValueError("a web address holds no user and password: they would lie in the database in the clear; write "
                             "them as user, and password with file:PATH or env:NAME")  # fmt: skip
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("a web address is http:// or https://, a host and a path, without ? and #")


def check_secrets(user: str, password: str, token: str) -> None:
    """Raises ValueError, which never holds the secret."""
    check_reference("password", password)
    check_reference("token", token)
    if bool(user) != bool(password):
        raise ValueError("user and password belong together")
    if user and token:
        raise ValueError("a peer is asked with user and password, or with a token, not with both")


def check_reference(name: str, value: str) -> None:
    """Raises ValueError, which never holds the secret."""
    if value and not (value.startswith(REFERENCES) and value.partition(":")[2]):
        raise ValueError(f"the {name} is written as file:PATH or env:NAME: a secret itself is not kept here")


def is_host(text: str) -> bool:
    """Whether this is a host name or an IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return HOST.fullmatch(text) is not None and not text.rpartition(".")[2].isdigit()
    return True


def plain_address(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An IPv4 address that came over an IPv6 socket as IPv4. Raises ValueError."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    return (ip.ipv4_mapped or ip) if isinstance(ip, ipaddress.IPv6Address) else ip
