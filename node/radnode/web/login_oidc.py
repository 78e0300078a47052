"""Sign-in at the hospital's identity provider: OpenID Connect Core 1.0, authorization code with PKCE (RFC 7636).

What the browser carries to the provider and back is checked against what was kept of it here: state, nonce, verifier.
The ID token must be signed by a key of the provider, for this client, now.
"""

import logging
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

import httpx
from authlib.common.urls import add_params_to_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, KeySetSerialization
from sqlalchemy import delete

from radnode import accounts, audit
from radnode.accounts import Role
from radnode.accounts_sessions import digest
from radnode.audit import Outcome
from radnode.database import Database
from radnode.errors import RefusedError, as_sentence
from radnode.identity_provider import ProviderError, client, discover, fetched, shown
from radnode.settings import Settings
from radnode.settings_access import Oidc
from radnode.tables_access import SignInRow
from radnode.web.i18n import mark
from radnode.web.login import address_of, own_path, signed, signed_in
from radnode.web.views import Render

COOKIE, ONWARD = "radnode-sign-in", "radnode-onward"
"""What was kept for this browser; the page of this node that it goes on to."""
LONGEST_ONWARD = 512
WAIT_S = 600.0
LEEWAY_S = 60
ERROR = re.compile(r"[a-z_]{1,40}")
"""An error code of OAuth 2.0 (RFC 6749 section 4.1.2.1) or OpenID Connect."""
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""Signatures with a public key; never "none", never a shared secret."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Pending:
    """What was kept when the browser left."""

    state_sha256: str
    nonce: str
    verifier: str
    at: float


def provider_pages(made: APIRouter, render: Render, settings: Settings, database: Database) -> None:
    oidc = settings.oidc

    def refused(sentence: str, request: Request) -> Response:
        with database.transaction() as session:
            audit.note(session, signed_in("unknown", address_of(request), Outcome.FAILED))
        log.warning("A sign-in at the identity provider failed.", extra={"action": "sign-in", "why": sentence})
        return render(
            "login.html", "Sign in", "login", 403, problem=sentence, typed="", onward="/", provider=True, sentence=""
        )

    @made.get("/login/oidc")
    def leave(request: Request, next: str = "/") -> Response:  # noqa: A002  stands in the address
        if not oidc.issuer:
            return RedirectResponse("/login", status_code=303)
        kept, state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(4))
        try:
            with client(oidc) as provider:
                there = discover(oidc, provider)
        except ProviderError as e:
            return refused(str(e), request)
        asked = {
            "response_type": "code", "client_id": oidc.client_id, "scope": oidc.scope, "state": state, "nonce": nonce,
            "redirect_uri": back_address(request), "code_challenge_method": "S256",
            "code_challenge": create_s256_code_challenge(verifier),
        }  # fmt: skip
        url = add_params_to_uri(str(there["authorization_endpoint"]), list(asked.items()))
        now = time.time()
        row = SignInRow(id_sha256=digest(kept), state_sha256=digest(state), nonce=nonce, verifier=verifier, at=now)
        with database.transaction() as session:
            session.execute(delete(SignInRow).where(SignInRow.at < now - WAIT_S))
            session.add(row)
        answer = RedirectResponse(url, status_code=303)
        secure = request.url.scheme == "https"
        for cookie, value in ((COOKIE, kept), (ONWARD, quote(own_path(next[:LONGEST_ONWARD])))):
            answer.set_cookie(
                cookie, value, path="/login", max_age=int(WAIT_S), httponly=True, secure=secure, samesite="lax"
            )
        return answer

    @made.get("/login/oidc/back")
    def back(request: Request, state: str = "", code: str = "", error: str = "") -> Response:
        pending = take(database, request.cookies.get(COOKIE, ""))
        if not oidc.issuer or pending is None or not secrets.compare_digest(pending.state_sha256, digest(state)):
            return refused(mark("This sign-in was not begun here, or took too long: begin again."), request)
        try:
            if error:
                said = f" ({error})" if ERROR.fullmatch(error) else ""
                raise ProviderError(f"The identity provider did not sign this person in{said}.")
            claims = claims_of(oidc, back_address(request), code, pending)
            name, role = name_of(oidc, claims), role_of(oidc, claims)
            if role is None:
                return refused(mark("The identity provider gives this person no role for radnode."), request)
            with database.transaction() as session:
                subject = f"{oidc.issuer} {claims['sub']}"
                account = accounts.sign_in_by_provider(session, name, role, subject, time.time())
                answer = signed(
                    session, request, settings, account, own_path(unquote(request.cookies.get(ONWARD, "/")))
                )
        except ProviderError as e:
            return refused(str(e), request)
        except RefusedError as e:
            return refused(as_sentence(e), request)
        for cookie in (COOKIE, ONWARD):
            answer.delete_cookie(cookie, path="/login")
        return answer


def back_address(request: Request) -> str:
    return f"{request.url.scheme}://{request.url.netloc}/login/oidc/back"


def take(database: Database, kept: str) -> Pending | None:
    """What was kept for this browser, once."""
    with database.transaction() as session:
        row = session.get(SignInRow, digest(kept))
        if row is None:
            return None
        found = Pending(state_sha256=row.state_sha256, nonce=row.nonce, verifier=row.verifier, at=row.at)
        session.delete(row)
    return found if time.time() - found.at < WAIT_S else None


def claims_of(oidc: Oidc, redirect_uri: str, code: str, pending: Pending) -> Mapping[str, Any]:
    """What the ID token says, after every check of OpenID Connect Core section 3.1.3.7. Raises ProviderError."""
    wanted = {
        "grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri, "client_id": oidc.client_id,
        "code_verifier": pending.verifier,
    }  # fmt: skip
    with client(oidc) as provider:
        there = discover(oidc, provider)
        try:
            answer = provider.post(str(there["token_endpoint"]), data=wanted, auth=shown(oidc))
            tokens = dict(answer.json()) if answer.is_success else {}
        except (httpx.HTTPError, httpx.InvalidURL, KeyError, ValueError, TypeError) as e:
            raise ProviderError(f"The identity provider gives no token ({type(e).__name__}).") from e
        keys = fetched(provider, str(there.get("jwks_uri", "")))
    rules = jwt.JWTClaimsRegistry(
        leeway=LEEWAY_S,
        iss={"essential": True, "value": oidc.issuer},
        aud={"essential": True, "value": oidc.client_id},
        exp={"essential": True},
        sub={"essential": True},
        nonce={"essential": True, "value": pending.nonce},
    )
    try:
        decoded = jwt.decode(
            str(tokens.get("id_token", "")),
            KeySet.import_key_set(KeySetSerialization(keys=list(keys["keys"]))),
            algorithms=ALGORITHMS,
        )
        rules.validate(decoded.claims)
        if decoded.claims.get("azp", oidc.client_id) != oidc.client_id:
            raise ValueError("it was issued to another client")
    except (JoseError, ValueError, KeyError, TypeError) as e:
        raise ProviderError(f"The identity provider's token does not hold ({type(e).__name__}).") from e
    return decoded.claims


def name_of(oidc: Oidc, claims: Mapping[str, Any]) -> str:
    """The name of the name claim, "" where that is no text."""
    said = inside(claims, oidc.name_claim)
    return said if isinstance(said, str) else ""


def role_of(oidc: Oidc, claims: Mapping[str, Any]) -> Role | None:
    """By the values of the role claim; None for a person who has none of ours."""
    said = inside(claims, oidc.role_claim)
    values = {str(v) for v in said} if isinstance(said, Sequence) and not isinstance(said, str) else {str(said)}
    if values & set(oidc.administrators):
        return Role.ADMINISTRATOR
    return Role.READER if values & set(oidc.readers) else None


def inside(claims: Mapping[str, Any], path: str) -> Any:
    """The claim of this name; "a.b" is b inside a."""
    if path in claims:
        return claims[path]
    found: Any = claims
    for part in path.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found
