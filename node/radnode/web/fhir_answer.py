"""Answers of `/fhir`: resources with their version, and an OperationOutcome for every error."""

import functools
import inspect
import logging
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import orjson
from fastapi.responses import Response
from sqlalchemy.exc import DataError

from radnode.errors import FhirError
from radnode.fhir_server.store import Json, Stored

MEDIA_TYPE = "application/fhir+json"
UNFIT = "A value cannot be kept: it is too long, or holds a NUL character."
log = logging.getLogger(__name__)


def guarded(route: Callable[..., Any]) -> Callable[..., Any]:
    """The route, whose errors are answered as OperationOutcomes."""
    if inspect.iscoroutinefunction(route):

        @functools.wraps(route)
        async def asynchronous(*args: Any, **kwargs: Any) -> Response:
            try:
                return await route(*args, **kwargs)  # type: ignore[no-any-return]
            except Exception as e:
                return failed(e)

        return asynchronous

    @functools.wraps(route)
    def synchronous(*args: Any, **kwargs: Any) -> Response:
        try:
            return route(*args, **kwargs)  # type: ignore[no-any-return]
        except Exception as e:
            return failed(e)

    return synchronous


def failed(error: Exception) -> Response:
    if isinstance(error, FhirError):
        return answer(outcome(error.code, str(error)), error.status)
    if isinstance(error, RecursionError):
        return answer(outcome("structure", "The body is nested too deeply."), 400)
    if isinstance(error, DataError):
        return answer(outcome("value", UNFIT), 400)
    log.error("A FHIR request failed.", exc_info=error, extra={"action": "fhir"})
    return answer(outcome("exception", "The request failed; the node's log says why."), 500)


def outcome(code: str, words: str) -> Json:
    return {
        "resourceType": "OperationOutcome",
        "issue": [{"severity": "error", "code": code, "diagnostics": words}],
    }


def handed_over(stored: Stored, status: int = 200) -> Response:
    made = answer(stored.resource, status)
    made.headers["ETag"] = f'W/"{stored.version}"'
    made.headers["Last-Modified"] = formatdate(stored.updated_at, usegmt=True)
    return made


def said(stored: Stored, base: str) -> Response:
    """What a create or an update answers."""
    made = handed_over(stored, 201 if stored.created else 200)
    made.headers["Location"] = f"{base}/{stored.address}/_history/{stored.version}"
    return made


def answer(resource: Json, status: int = 200) -> Response:
    return Response(orjson.dumps(resource), status_code=status, media_type=MEDIA_TYPE)
