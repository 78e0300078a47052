"""How the node calls a peer over the web: whom it believes, as whom it comes, and what is wrong in words.

Secrets are read when they are used, from a file or the environment, and stand in no sentence.
"""

import ssl
from dataclasses import dataclass

import httpx

from radnode import secrets_read, tls
from radnode.errors import DeliveryError
from radnode.settings_access import Tls

ASKED = {
    401: "it asks who calls, and does not take what the node shows (user and password, or token)",
    403: "who the node comes as may not do this there",
    404: "there is nothing at this address",
}


@dataclass(frozen=True, kw_only=True)
class WebAddress:
    """password, token: "file:PATH" or "env:NAME". own: the node's certificate, and its authority beside the machine's own."""

    url: str
    user: str = ""
    password: str = ""
    token: str = ""
    own: Tls


def client(at: WebAddress, timeout_s: float) -> httpx.Client:
    """A client that may call below `at.url`. Raises DeliveryError when there is no address, or a secret cannot be had."""
    if not at.url.startswith(("http://", "https://")):
        raise DeliveryError("the peer has no web address")
    try:
        headers = {"Authorization": f"Bearer {secrets_read.secret(at.token)}"} if at.token else {}
        auth = (at.user, secrets_read.secret(at.password)) if at.user else None
    except secrets_read.SecretError as e:
        raise DeliveryError(str(e)) from e
    believed: ssl.SSLContext | bool = context(at) if at.url.startswith("https://") else True
    return httpx.Client(
        base_url=at.url.rstrip("/"),
        timeout=timeout_s,
        follow_redirects=False,
        headers=headers,
        auth=auth,
        verify=believed,
    )


def context(at: WebAddress) -> ssl.SSLContext:
    """Whom is believed: the machine's authorities and that of [tls]; with the node's own certificate. Raises DeliveryError."""
    made = ssl.create_default_context()
    try:
        if at.own.ca:
            tls.believe(made, at.own.ca)
        if at.own.certificate and at.own.certificate_key:
            tls.show(made, at.own.certificate, at.own.certificate_key)
    except OSError as e:
        raise DeliveryError(f"a certificate of [tls] cannot be used: {e}") from e
    return made


def ask(http: httpx.Client, method: str, path: str, **parts: object) -> httpx.Response:
    """The answer, which is a good one. Raises DeliveryError that says what is wrong."""
    try:
        answer = http.request(method, path, **parts)  # type: ignore[arg-type]  # handed on as they are
    except (httpx.HTTPError, httpx.InvalidURL) as e:
        raise DeliveryError(why(e)) from e
    if not answer.is_success:
        told = ASKED.get(answer.status_code, "")
        raise DeliveryError(f"the web address answered {answer.status_code}" + (f": {told}" if told else ""))
    return answer


def why(error: BaseException) -> str:
    """Why there was no answer."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not believed: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return f"TLS was refused: {(cause.reason or type(cause).__name__).replace('_', ' ').lower()}"
        cause = cause.__cause__ or cause.__context__
    return f"the web address does not answer: {type(error).__name__}"
