"""The language of the pages: chosen by ?lang=, else by the cookie, else by Accept-Language. Catalogues are gettext files.

Sentences that models, rules and other systems wrote stand as they were written, in every language.
"""

from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path
from urllib.parse import parse_qs

from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CATALOGUES = Path(__file__).parent / "catalogues"
LANGUAGES: Mapping[str, str] = {"en": "English", "zh-TW": "繁體中文"}
DEFAULT = "en"
COOKIE = "lang"
YEAR_S = 365 * 86400
LANGUAGE: ContextVar[str] = ContextVar("language", default=DEFAULT)
"""Of the request that is being answered."""


def mark(text: str) -> str:
    """The text itself: marks it for the catalogues, where it is translated only later."""
    return text


class Texts:
    """Translates by the language of the request. The catalogues are read once, when this is made."""

    def __init__(self) -> None:
        self._texts = {language: catalogue(language) for language in LANGUAGES if language != DEFAULT}

    def gettext(self, text: str) -> str:
        return self._texts.get(LANGUAGE.get(), {}).get(text, text)

    def ngettext(self, one: str, many: str, count: int) -> str:
        return self.gettext(one if count == 1 else many)


class Language:
    """ASGI middleware: sets LANGUAGE, and the cookie when ?lang= asked for a language."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        asked = parse_qs(scope["query_string"].decode("latin-1")).get(COOKIE, [""])[-1]
        language = asked if asked in LANGUAGES else chosen(Headers(scope=scope))

        async def send_with_cookie(message: Message) -> None:
            if message["type"] == "http.response.start" and asked in LANGUAGES:
                kept = f"{COOKIE}={asked}; Path=/; Max-Age={YEAR_S}; SameSite=Lax; HttpOnly"
                MutableHeaders(scope=message).append("set-cookie", kept)
            await send(message)

        before = LANGUAGE.set(language)
        try:
            await self.app(scope, receive, send_with_cookie)
        finally:
            LANGUAGE.reset(before)


def chosen(headers: Headers) -> str:
    """The language of the cookie, else the one that Accept-Language likes best of those there are (RFC 9110 12.5.4)."""
    kept = cookie_parser(headers.get("cookie", "")).get(COOKIE)
    if kept is not None and kept in LANGUAGES:
        return kept
    wanted = sorted((preference(part) for part in headers.get("accept-language", "").split(",")), reverse=True)
    known = {"zh": "zh-TW", "en": "en"}
    return next((known[tag] for quality, tag in wanted if quality > 0 and tag in known), DEFAULT)


def preference(part: str) -> tuple[float, str]:
    """ "zh-TW;q=0.8" -> (0.8, "zh"). What cannot be read is not wanted."""
    tag, _, quality = part.strip().partition(";q=")
    try:
        return (float(quality) if quality else 1.0), tag.split("-")[0].lower()
    except ValueError:
        return 0.0, ""


def catalogue(language: str) -> Mapping[str, str]:
    """English text -> text in `language`, for those that are translated."""
    with (CATALOGUES / f"{language}.po").open("rb") as file:
        read: Catalog = read_po(file, locale=language.replace("-", "_"))
    return {str(m.id): str(m.string) for m in read if m.id and m.string}
