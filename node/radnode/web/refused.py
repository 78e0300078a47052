"""What a person sees when a page refuses: the sentence on a page, with the way back. Programs get it as JSON, as ever."""

from http import HTTPStatus
from urllib.parse import urlsplit

from fastapi import FastAPI, Request
from fastapi.exception_handlers import http_exception_handler, request_validation_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from sqlalchemy.exc import DataError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from radnode.settings import Settings
from radnode.web import views
from radnode.web.door import Refuse
from radnode.web.guard import HEADERS
from radnode.web.i18n import LANGUAGE, chosen, mark

FOR_PROGRAMS = ("/api", "/fhir", "/dicom-web", "/metrics", "/changes", "/fragments", "/static")
NOT_HERE, NOT_DONE = mark("Not here"), mark("Not done")
WRONG_FORM = mark("The form was not filled in as it must be: nothing was changed.")
NO_ADDRESS = mark("Nothing has this address.")
FAILED = mark("The node failed at this; its log says why. Look whether it was done before you try again.")
NO_FORM = mark("This address takes no form: nothing was changed.")
UNNAMED = {404: NO_ADDRESS, 405: NO_FORM}
"""For what no route of this node refused in words of its own."""
IN_ADDRESS = frozenset({"path", "query"})


def refusals(app: FastAPI, settings: Settings) -> Refuse:
    """Have the application refuse by pages; how the door refuses, too."""
    environment = views.environment(settings)
    template, translated = environment.get_template("refused.html"), environment.filters["translated"]

    def page(request: Request, status: int, sentence: str) -> HTMLResponse:
        title = NOT_HERE if status in (404, 410) else NOT_DONE
        values = views.common(translated(title), "") | {"what": sentence, "back": back(request), "over": status == 401}
        return HTMLResponse(template.render(**values), status_code=status)

    def at_the_door(request: Request, status: int, sentence: str) -> Response:
        return page(request, status, sentence) if is_a_person(request) else PlainTextResponse(sentence, status)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        if not is_a_person(request):
            return await http_exception_handler(request, error)
        if error.status_code == 405 and request.method == "GET":  # the language was changed on what a form answered
            return RedirectResponse(page_above(request), status_code=303)
        fixed = error.detail == HTTPStatus(error.status_code).phrase
        shown = page(
            request, error.status_code, UNNAMED.get(error.status_code, error.detail) if fixed else error.detail
        )
        shown.headers.update(error.headers or {})
        return shown

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> Response:
        if not is_a_person(request):
            return await request_validation_exception_handler(request, error)
        wrong_address = any(one["loc"][0] in IN_ADDRESS for one in error.errors())
        return page(request, 404, NO_ADDRESS) if wrong_address else page(request, 422, WRONG_FORM)

    @app.exception_handler(DataError)
    async def unfit(request: Request, error: DataError) -> Response:
        """A value that the database cannot hold, of a length or a character: the transaction was rolled back."""
        return at_the_door(request, 422, WRONG_FORM)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        """Answered outside of everything else, so language and headers are not there yet. It is logged after this."""
        LANGUAGE.set(chosen(request.headers))
        answer = at_the_door(request, 500, FAILED)
        answer.headers.update({**HEADERS, "cache-control": "no-store"})
        return answer

    return at_the_door


def page_above(request: Request) -> str:
    """The nearest page above an address that only takes forms: /peers for /peers/test."""
    routes, path = request.app.routes, request.url.path.rpartition("/")[0]
    while path and not any(r.matches({**request.scope, "path": path})[0] is Match.FULL for r in routes):
        path = path.rpartition("/")[0]
    return path or "/"


def is_a_person(request: Request) -> bool:
    """A browser that wants a page."""
    return "text/html" in request.headers.get("accept", "") and not request.url.path.startswith(FOR_PROGRAMS)


def back(request: Request) -> str:
    """The page of this node that the person came from, else the worklist."""
    came = urlsplit(request.headers.get("referer", ""))
    same = came.netloc == request.headers.get("host", "") and came.path.startswith("/") and came.path[1:2] != "/"
    return f"{came.path}{'?' if came.query else ''}{came.query}" if same else "/"
