"""Webhooks: a changed priority as JSON without patient data, signed so that the receiver knows who sent it, and when.

X-Radnode-Timestamp: seconds since 1970
X-Radnode-Signature: sha256=HEX, the HMAC-SHA256 of "TIMESTAMP.BODY" with the shared secret
Idempotency-Key:     the same for the same change, however often it is sent
"""

import hashlib
import hmac
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import httpx

from radnode.destinations import Outgoing
from radnode.errors import DeliveryError
from radnode.settings import Destination as Address

MAY_PASS = frozenset({401, 403, 404, 408, 409, 425, 429})
"""4xx answers that another try can change."""
TOLD = ("study_uid", "level", "before", "at", "abnormal", "demonstration")
"""What leaves of a notice: nothing that names a patient, and no words that somebody typed."""


class Webhook:
    def __init__(self, address: Address, timeout_s: float) -> None:
        self.address = address
        self.timeout_s = timeout_s

    @contextmanager
    def open(self, results: Sequence[Outgoing]) -> Iterator["Caller"]:
        with httpx.Client(timeout=self.timeout_s, follow_redirects=False) as client:
            yield Caller(client, self.address)


class Caller:
    def __init__(self, client: httpx.Client, address: Address) -> None:
        self.client = client
        self.address = address

    def send(self, result: Outgoing) -> str:
        body = json.dumps(message(json.loads(result.path.read_bytes()), self.address.link), sort_keys=True).encode()
        at = str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": result.uid,
            "X-Radnode-Timestamp": at,
            "X-Radnode-Signature": f"sha256={signature(self.address.secret, at, body)}",
        }
        try:
            answer = self.client.post(self.address.url, content=body, headers=headers)
        except httpx.HTTPError as e:
            raise DeliveryError(f"the webhook does not answer: {type(e).__name__}") from e
        if not answer.is_success:
            permanent = 400 <= answer.status_code < 500 and answer.status_code not in MAY_PASS
            raise DeliveryError(f"the webhook answered {answer.status_code}", permanent=permanent)
        return ""


def message(notice: Mapping[str, Any], link: str) -> dict[str, Any]:
    told = {"event": "priority", **{name: notice[name] for name in TOLD}}
    return told | ({"link": f"{link.rstrip('/')}/studies/{notice['study_uid']}"} if link else {})


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """Hexadecimal. Raises DeliveryError without a secret: nothing leaves unsigned."""
    if not secret:
        raise DeliveryError("the webhook has no secret to sign with; set `secret`")
    return hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()


def make(address: Address, *, calling_ae: str, timeout_s: float) -> Webhook:
    return Webhook(address, timeout_s)
