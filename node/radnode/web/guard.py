"""What every answer carries and every request must pass: security headers, own names only, changes from own pages only."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from radnode.settings_access import LOOPBACK

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
HEADERS: Mapping[str, str] = {
    "content-security-policy": (
        "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",  # with "no-referrer" Chromium sends "Origin: null" with our own forms
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
ELSEWHERE = "A page of another site may not change anything here."


class Guard:
    """ASGI middleware. host: the address that the server binds to."""

    def __init__(self, app: ASGIApp, host: str) -> None:
        self.app = app
        self.loopback = host in LOOPBACK

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("cache-control", "no-store")
                if scope.get("scheme") == "https":
                    headers.setdefault("strict-transport-security", "max-age=31536000")
            await send(message)

        if "\0" in scope["path"] or b"%00" in scope["query_string"]:  # no database keeps it, and nothing is called so
            await PlainTextResponse("An address holds no NUL character.", 400)(scope, receive, send_with_headers)
            return
        refused = self.refusal(scope["method"], Headers(scope=scope))
        if refused:
            await PlainTextResponse(refused, status_code=403)(scope, receive, send_with_headers)
            return
        await self.app(scope, receive, send_with_headers)

    def refusal(self, method: str, headers: Headers) -> str:
        """Why this request may not pass, or "".

        A page of another site may neither change anything here, nor read anything by naming its own host so that it
        leads to this machine (DNS rebinding). A program that is no browser sends neither header and passes.
        """
        if self.loopback and name_of(headers.get("host", "")) not in LOOPBACK:
            return "This node serves its own machine only: call it by 127.0.0.1 or localhost."
        if method in SAFE_METHODS:
            return ""
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return ELSEWHERE
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != headers.get("host", ""):
            return f"{ELSEWHERE} A proxy has to hand on the Host header as the browser sent it."
        return ""


def name_of(host: str) -> str:
    """The host name of a Host header, without its port."""
    return host.rsplit("]", 1)[0] + "]" if host.startswith("[") else host.rsplit(":", 1)[0]
