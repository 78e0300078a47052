"""The settings of access: who signs in where, what is encrypted, where the audit goes. A part of `settings`.

A secret is written as "file:PATH" or "env:NAME", never in the settings themselves (`radnode.secrets_read`).
"""

from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1", "[::1]"})


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class WebAccess(Section):
    """Who may use the page.

    login "auto": open to whoever sits at this machine as long as `host` is a loopback address and there is no account;
    else as "required". "off": only behind a proxy that asks who is there and says so in its headers.
    """

    login: Literal["auto", "required", "off"] = "auto"
    session_idle_min: float = Field(default=60.0, gt=0)
    session_hours: float = Field(default=12.0, gt=0)
    requests_per_min: int = Field(default=30_000, ge=0)  # of one address; more are answered with 429; 0: no limit
    certificate: Path | None = None  # TLS: the chain (PEM) and its key
    certificate_key: Path | None = None
    client_ca: Path | None = None  # mutual TLS: every caller shows a certificate of one of these
    behind_proxy: bool = False
    proxy_addresses: tuple[str, ...] = ("127.0.0.1", "::1")  # whose headers are believed: addresses or networks
    proxy_user_header: str = "X-Forwarded-User"
    proxy_groups_header: str = "X-Forwarded-Groups"
    proxy_administrators: tuple[str, ...] = ()  # groups whose members administer the node

    @model_validator(mode="after")
    def has_both_or_neither(self) -> "WebAccess":
        if (self.certificate is None) != (self.certificate_key is None):
            raise ValueError("certificate and certificate_key belong together")
        if self.client_ca is not None and self.certificate is None:
            raise ValueError("client_ca needs certificate and certificate_key")
        return self


class ReceiveTls(Section):
    """The listener for DICOM over TLS beside, or instead of, the plain one."""

    tls_port: Annotated[int, Field(ge=0, le=65535)] | None = None  # its certificates stand in [tls]
    plain: bool = True  # False: only over TLS


class Oidc(Section):
    """Sign-in at an identity provider (OpenID Connect, authorization code with PKCE). Without issuer there is none."""

    issuer: str = ""  # its discovery document stands at issuer + /.well-known/openid-configuration
    client_id: str = ""
    client_secret: str = ""  # "file:PATH" or "env:NAME"; "" for a public client
    scope: str = "openid profile"
    name_claim: str = "preferred_username"
    role_claim: str = "groups"  # a text or a list of texts; "a.b" looks inside
    administrators: tuple[str, ...] = ()  # values of role_claim
    readers: tuple[str, ...] = ()
    ca: Path | None = None  # whose certificate of the provider is trusted; left out: the machine's own list


class Audit(Section):
    """Where audit messages go: a syslog collector over TLS (RFC 5425). Without a host they stay in the database."""

    host: str = ""
    port: Annotated[int, Field(ge=1, le=65535)] = 6514
    ca: Path | None = None  # left out: the machine's own list
    certificate: Path | None = None  # mutual TLS
    certificate_key: Path | None = None
    every_s: float = Field(default=10.0, gt=0)


class Tls(Section):
    """The node's own certificate for DICOM over TLS (BCP 195), and whose certificates it believes. Both ways mutual."""

    certificate: Path | None = None
    certificate_key: Path | None = None
    ca: Path | None = None
    warn_days: float = Field(default=30.0, gt=0)  # a certificate that ends sooner is warned of


D = TypeVar("D", bound=BaseModel)


def with_certificates(destinations: tuple[D, ...], own: Tls) -> tuple[D, ...]:
    """The destinations; those that are called over TLS with the node's own certificates where they name none."""
    keys = own.model_dump(include={"certificate", "certificate_key", "ca"})
    return tuple(
        d.model_copy(update=keys) if getattr(d, "tls", False) and getattr(d, "certificate", None) is None else d
        for d in destinations
    )
