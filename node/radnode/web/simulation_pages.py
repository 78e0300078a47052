"""What a policy would do, on a page: asked for with a form, computed beside the web process, shown as tables and curves."""

import time
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import ValidationError

from radnode.database import Database
from radnode.errors import RefusedError, as_sentence
from radnode.settings import Settings
from radnode.simulation import runs
from radnode.simulation.draft import written
from radnode.simulation.runs import Asked
from radnode.triage import DEFAULT_POLICY
from radnode.web.api import Number
from radnode.web.forms import NO_TEXT
from radnode.web.i18n import mark
from radnode.web.views import Render

GROUPS = (
    mark("diseased"), mark("diseased, missed by the AI"), mark("not diseased"), mark("all"),
    mark("emergency patients"), mark("inpatients"), mark("outpatients"),
    mark("in the order of arrival"), mark("with triage"), mark("running"), mark("done"), mark("failed"), mark("cancelled"),
)  # fmt: skip
"""Names in results, translated as they come."""
ROOM = {
    "readers": (mark("Readers"), 1, 1), "load": (mark("How busy they are, 0 to 1"), 0.8, 0.01),
    "reading_min": (mark("Minutes per study"), 10, 0.5), "ai_latency_min": (mark("Minutes to the AI's report"), 2, 0.5),
}  # fmt: skip
CONDITION = {
    "prevalence": (mark("Share of the diseased"), 0.1, 0.01), "sensitivity": (mark("Sensitivity"), 0.9, 0.01),
    "specificity": (mark("Specificity"), 0.83, 0.01), "probability": (mark("Probability given to a flag"), 0.9, 0.01),
}  # fmt: skip
CLASSES = {
    "emergency": (mark("Share of emergency patients"), 0, 0.01), "inpatient": (mark("Share of inpatients"), 0, 0.01),
    "outpatient": (mark("Share of outpatients"), 0, 0.01),
}  # fmt: skip
SIZE = {"studies": (mark("Studies in a trial"), 2000, 100), "trials": (mark("Trials"), 10, 1)}


def asked_of(form: Mapping[str, str]) -> Asked:
    """Raises ValidationError or ValueError for what cannot be simulated."""
    room: dict[str, Any] = {key: form[key] for key in ROOM if form.get(key)}
    if form.get("per_hour", "").strip():
        numbers = [float(v) for v in form["per_hour"].replace(",", " ").split()]
        room["per_hour"] = numbers[0] if len(numbers) == 1 else tuple(numbers)
    condition = {key: form[key] for key in (*CONDITION, "code") if form.get(key)}
    shares = {key: float(form.get(key) or 0) for key in CLASSES}
    classes = tuple({"patient_class": key, "share": share} for key, share in shares.items() if share)
    return Asked.model_validate(
        {
            "room": room | {"conditions": (condition,), "classes": classes},
            "since_days": form.get("since_days") if form.get("source") == "recorded" else None,
            "draft": form.get("draft", "") if form.get("with_draft") else "",
            "interrupts": bool(form.get("interrupts")),
            **{key: form[key] for key in SIZE if form.get(key)},
        }
    )


def problem_of(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if not isinstance(part, int))
        return f"{where}: {first['msg']}."
    return as_sentence(error)


def simulation_pages(made: APIRouter, render: Render, settings: Settings, database: Database) -> None:
    rules = DEFAULT_POLICY if settings.triage is None else settings.triage
    drafts = {"in-force": written(rules, settings.ageing)}
    if settings.triage_shadow:
        drafts["shadow"] = written(settings.triage_shadow, settings.ageing)

    blank = {"source": "described", "since_days": "30", "draft": drafts["in-force"]} | dict.fromkeys(
        ("per_hour", "code", "with_draft", "interrupts"), ""
    )

    def page(form: Mapping[str, str], status: int = 200, problem: str = "") -> HTMLResponse:
        with database.reading() as session:
            past = runs.runs(session)
        fields = {key: (label, form.get(key, default), step)
                  for key, (label, default, step) in (ROOM | CONDITION | CLASSES | SIZE).items()}  # fmt: skip
        return render(
            "simulate.html", "Simulation", "triage", status, fields=fields, form=blank | dict(form), past=past, problem=problem,
            parts={"room": list(ROOM), "condition": list(CONDITION), "classes": list(CLASSES), "size": list(SIZE)},
        )  # fmt: skip

    @made.get("/triage/simulation")
    def form(draft: str = "") -> HTMLResponse:
        chosen = draft if draft in drafts else "shadow" if "shadow" in drafts else "in-force"
        return page({"draft": drafts[chosen]})

    @made.post("/triage/simulation")
    async def start(request: Request) -> Response:
        async with request.form() as form:
            sent = {key: value for key, value in form.items() if isinstance(value, str)}
            if len(sent) != len(form):
                raise HTTPException(422, NO_TEXT)
        return await run_in_threadpool(begin, sent)

    def begin(sent: Mapping[str, str]) -> Response:
        try:
            number = runs.start(database, settings, asked_of(sent), time.time())
        except (ValueError, RefusedError) as e:
            return page(sent, 409 if isinstance(e, RefusedError) else 422, problem_of(e))
        return RedirectResponse(f"/triage/simulation/{number}", status_code=303)

    def shown(template: str, number: int) -> HTMLResponse:
        with database.reading() as session:
            run = runs.run(session, number)
        if run is None:
            return render("missing.html", "Not here", "triage", 404, what=mark("There is no such simulation."))
        return render(template, "Simulation", "triage", run=run)

    @made.get("/triage/simulation/{number}")
    def one(number: Number) -> HTMLResponse:
        return shown("simulated.html", number)

    @made.get("/fragments/triage/simulation/{number}")
    def one_part(number: Number) -> HTMLResponse:
        return shown("simulated_parts.html", number)

    @made.post("/triage/simulation/{number}/cancel")
    def cancel(number: Number) -> Response:
        try:
            runs.cancel(database, number, time.time())
        except RefusedError as e:
            raise HTTPException(409, as_sentence(e)) from e
        return RedirectResponse(f"/triage/simulation/{number}", status_code=303)
