"""The hospital's identity provider, as the page and `radnode check` ask it: OpenID Connect Discovery 1.0."""

import ssl
from collections.abc import Mapping
from typing import Any

import httpx

from radnode.secrets_read import SecretError, secret
from radnode.settings_access import Oidc

TIMEOUT_S = 10.0


class ProviderError(Exception):
    """The provider did not answer, or not as it has to; the message holds no secret and no name."""


def client(oidc: Oidc) -> httpx.Client:
    """Raises ProviderError when the authority of the settings cannot be read."""
    try:
        trusted = ssl.create_default_context(cafile=oidc.ca)
    except OSError as e:
        raise ProviderError(f"The file `ca` of [oidc] cannot be used: {oidc.ca} ({type(e).__name__}).") from e
    return httpx.Client(timeout=TIMEOUT_S, verify=trusted)


def shown(oidc: Oidc) -> httpx.Auth:
    """How this client shows the provider who it is. Raises ProviderError when its secret cannot be read."""
    try:
        return httpx.BasicAuth(oidc.client_id, secret(oidc.client_secret)) if oidc.client_secret else httpx.Auth()
    except SecretError as e:
        raise ProviderError(f"The identity provider cannot be asked: {e}.") from e


def discover(oidc: Oidc, provider: httpx.Client) -> Mapping[str, Any]:
    """The provider's description of itself (OpenID Connect Discovery 1.0). Raises ProviderError."""
    found = fetched(provider, f"{oidc.issuer.rstrip('/')}/.well-known/openid-configuration")
    if found.get("issuer") != oidc.issuer:
        raise ProviderError("The identity provider calls itself otherwise than the settings do.")
    if not str(found.get("authorization_endpoint", "")).startswith(("https://", "http://")):
        raise ProviderError("The identity provider does not say where to sign in.")
    return found


def fetched(provider: httpx.Client, url: str) -> Mapping[str, Any]:
    try:
        answer = provider.get(url)
        body = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as e:
        raise ProviderError(f"The identity provider does not answer ({type(e).__name__}).") from e
    if not answer.is_success or not isinstance(body, dict):
        raise ProviderError(f"The identity provider answers {answer.status_code}.")
    return body
