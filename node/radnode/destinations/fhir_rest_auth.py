"""How the node shows a FHIR server who it is: a bearer token, OAuth 2 client credentials, or a certificate of its own.

SMART Backend Services (https://hl7.org/fhir/smart-app-launch/backend-services.html): the token is asked for with an
assertion that a private key signs (RFC 7523). Secrets are read when they are used, from a file or the environment.
"""

import ssl
import time
import uuid
from typing import Any

import httpx
from authlib.oauth2.rfc7523 import private_key_jwt_sign
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from radnode import secrets_read, tls
from radnode.errors import DeliveryError
from radnode.settings import Destination as Address

ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
VALID_S = 300
"""The longest that SMART allows an assertion to hold."""


def client(address: Address, timeout_s: float) -> httpx.Client:
    """A client that may talk to the server at `address`. Raises DeliveryError."""
    trusted = context(address)
    headers = {}
    if address.token:
        headers["Authorization"] = f"Bearer {secret(address.token)}"
    elif address.token_url:
        with httpx.Client(timeout=timeout_s, verify=trusted) as http:
            headers["Authorization"] = f"Bearer {access_token(http, address)}"
    return httpx.Client(auth=basic(address), timeout=timeout_s, verify=trusted, headers=headers)


def basic(address: Address) -> tuple[str, str] | None:
    return (address.user, address.password) if address.user else None


def context(address: Address) -> ssl.SSLContext:
    """Whom the node trusts, and its own certificate."""
    try:
        made = ssl.create_default_context(cafile=address.ca)
        if address.certificate:
            tls.show(made, address.certificate, address.certificate_key)
    except OSError as e:
        raise DeliveryError(f"a certificate of the destination {address.name} cannot be used: {e}") from e
    return made


def access_token(http: httpx.Client, address: Address) -> str:
    """A token by client credentials. Raises DeliveryError."""
    wanted = {"grant_type": "client_credentials", "scope": address.scope}
    auth = httpx.Auth()  # none
    if address.client_key:
        wanted |= {"client_assertion_type": ASSERTION, "client_assertion": assertion(address)}
    else:
        auth = httpx.BasicAuth(address.client_id, secret(address.client_secret))
    try:
        answer = http.post(address.token_url, data=wanted, auth=auth)
        found: Any = answer.json()
    except httpx.HTTPError as e:
        raise DeliveryError(f"{address.token_url} does not answer: {type(e).__name__}") from e
    except ValueError:
        found = {}
    token = found.get("access_token") if isinstance(found, dict) else None
    if not answer.is_success or not isinstance(token, str):
        raise DeliveryError(f"{address.token_url} gives no token: it answered {answer.status_code}")
    return token


def assertion(address: Address) -> str:
    """RS384 or ES384, the two algorithms of SMART, by the kind of the key."""
    pem = secret(address.client_key)
    header = {"kid": address.key_id} if address.key_id else {}
    for kind, algorithm in ((RSAKey, "RS384"), (ECKey, "ES384")):
        try:
            key = kind.import_key(pem)
        except (ValueError, TypeError, JoseError):
            continue
        claims = {"jti": str(uuid.uuid4()), "exp": int(time.time()) + VALID_S}
        signed = private_key_jwt_sign(
            key,
            client_id=address.client_id,
            token_endpoint=address.token_url,
            claims=claims,
            header=header,
            alg=algorithm,
        )
        return str(signed)
    raise DeliveryError(f"the client_key of the destination {address.name} is no RSA or P-384 key")


def secret(where: str) -> str:
    """What "file:PATH" or "env:NAME" leads to. Raises DeliveryError, which never holds the secret."""
    try:
        return secrets_read.secret(where)
    except secrets_read.SecretError as e:
        raise DeliveryError(str(e)) from e
