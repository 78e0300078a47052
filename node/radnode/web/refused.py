"""What a person sees when a page refuses: the sentence on a page, with the way back. Programs get it as JSON, as ever."""

from urllib.parse import urlsplit

from fastapi import FastAPI, Request
from fastapi.exception_handlers import http_exception_handler, request_validation_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException

from radnode.settings import Settings
from radnode.web import views
from radnode.web.door import Refuse
from radnode.web.i18n import mark

FOR_PROGRAMS = ("/api", "/fhir", "/dicom-web", "/metrics", "/changes", "/fragments", "/static")
NOT_HERE, NOT_DONE = mark("Not here"), mark("Not done")
WRONG_FORM = mark("The form was not filled in as it must be: nothing was changed.")


def refusals(app: FastAPI, settings: Settings) -> Refuse:
    """Have the application refuse by pages; how the door refuses, too."""
    template = views.environment(settings).get_template("refused.html")

    def page(request: Request, status: int, sentence: str) -> HTMLResponse:
        title = NOT_HERE if status in (404, 410) else NOT_DONE
        values = views.common(title, "") | {"what": sentence, "back": back(request)}
        return HTMLResponse(template.render(**values), status_code=status)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        if not is_a_person(request):
            return await http_exception_handler(request, error)
        shown = page(request, error.status_code, str(error.detail))
        shown.headers.update(error.headers or {})
        return shown

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> Response:
        if not is_a_person(request):
            return await request_validation_exception_handler(request, error)
        return page(request, 422, WRONG_FORM)

    def at_the_door(request: Request, status: int, sentence: str) -> Response:
        return page(request, status, sentence) if is_a_person(request) else PlainTextResponse(sentence, status)

    return at_the_door


def is_a_person(request: Request) -> bool:
    """A browser that wants a page."""
    return "text/html" in request.headers.get("accept", "") and not request.url.path.startswith(FOR_PROGRAMS)


def back(request: Request) -> str:
    """The page of this node that the person came from, else the worklist."""
    came = urlsplit(request.headers.get("referer", ""))
    same = came.netloc == request.headers.get("host", "") and came.path.startswith("/") and came.path[1:2] != "/"
    return f"{came.path}{'?' if came.query else ''}{came.query}" if same else "/"
