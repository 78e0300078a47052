"""What every form is held to before a route reads it: its size, the time it takes to come, and texts that can be kept.

What is longer than a text that a person writes is taken by routes that bound it themselves: files, DICOM, FHIR.
"""

import asyncio

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from radnode.web.door import Refuse
from radnode.web.i18n import mark

MOST = 1 << 20
"""Bytes of one form."""
LONGEST_S = 60.0
KINDS = ("application/x-www-form-urlencoded", "multipart/form-data")
OTHERS = ("/upload", "/dicom-web", "/fhir")
"""They bound their bodies themselves, whatever type these say they have."""
TOO_LONG = mark("The form is too long: nothing was changed.")
TOO_SLOW = mark("The form did not come within a minute: nothing was changed.")
NO_TEXT = mark("A field holds what is no text (a file, or a NUL character): nothing was changed.")


class Forms:
    """ASGI middleware. refuse: how a person is told."""

    def __init__(self, app: ASGIApp, refuse: Refuse) -> None:
        self.app = app
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not is_form(scope):
            await self.app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(LONGEST_S):
                body = await whole(receive)
        except TimeoutError:
            await self._say(408, TOO_SLOW, scope, receive, send)
            return
        if body is None:
            return  # nobody waits for an answer
        if len(body) > MOST:
            await self._say(413, TOO_LONG, scope, receive, send)
        elif b"\0" in body or b"%00" in body:
            await self._say(422, NO_TEXT, scope, receive, send)
        else:
            await self.app(scope, again(body, receive), send)

    async def _say(self, status: int, sentence: str, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self._refuse(Request(scope), status, sentence)
        if status != 422:
            answer.headers["connection"] = "close"  # what is still on its way is not waited for
        await answer(scope, receive, send)


def is_form(scope: Scope) -> bool:
    if scope["type"] != "http" or scope["path"].startswith(OTHERS):
        return False
    return Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower() in KINDS


async def whole(receive: Receive) -> bytes | None:
    """The body, or so much of it that it is too long; None when its sender is gone."""
    body = bytearray()
    while len(body) <= MOST:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    return bytes(body)


def again(body: bytes, receive: Receive) -> Receive:
    """Hands the body on once, then what else comes."""
    held: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def handing() -> Message:
        return held.pop() if held else await receive()

    return handing
