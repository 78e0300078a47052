"""The pages that people read. Each shows what the tables say at that moment; fragments of them are fetched anew while open."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Form, HTTPException, Query, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response

from radnode import addresses, evidence, readings, resend, results, series_names, studies, verdicts, waiting
from radnode.database import Database
from radnode.narrative import narratives
from radnode.narrative import page as narrative_page
from radnode.results import StoredResult
from radnode.settings import Settings
from radnode.store import Store
from radnode.studies import Story
from radnode.web import drawings, overlay, pictures, rulings, views
from radnode.web.account_pages import account_pages, audit_pages
from radnode.web.api import Number, StudyUid
from radnode.web.fetch_pages import fetch_pages
from radnode.web.i18n import mark
from radnode.web.life import life_pages, withheld
from radnode.web.login import first_pages, login_pages, own_pages
from radnode.web.login_oidc import provider_pages
from radnode.web.missed import added, missed_pages
from radnode.web.model_pages import model_pages
from radnode.web.peer_pages import peer_pages
from radnode.web.pixels import Decoder
from radnode.web.reading import reading_pages
from radnode.web.rules_pages import rules_pages
from radnode.web.simulation_pages import simulation_pages
from radnode.web.text_pages import text_pages
from radnode.web.triage_pages import triage_pages
from radnode.web.upload import upload_pages
from radnode.web.views import Render
from radnode.worklist import Reader

ON_A_PAGE = 1000
"""Rows of the list of all studies."""
NOT_DEAD = mark("This delivery is not dead, or its result is not current any more.")
OVERTAKEN = mark(
    "What this note takes back stands there anew: sent now, it would undo what is current. It is withdrawn."
)
MEDIA_TYPES = {"fhir": "application/fhir+json"}


def router(settings: Settings, database: Database, reader: Reader, store: Store) -> APIRouter:
    decoder = Decoder()
    made = APIRouter(include_in_schema=False, lifespan=decoder.lifespan)
    environment = views.environment(settings)

    def render(name: str, title: str, here: str, status: int = 200, **values: Any) -> HTMLResponse:
        template = environment.get_template(name)
        return HTMLResponse(
            template.render(**views.common(environment.filters["translated"](title), here), **values),
            status_code=status,
        )

    worklist_pages(made, render, database, reader)
    study_pages(made, render, settings, database, reader)
    life_pages(made, render, settings, database)
    triage_pages(made, render, settings, database, reader)
    simulation_pages(made, render, settings, database)
    missed_pages(made, database)
    rulings.ruling_pages(made, render, database, reader)
    reading_pages(made, database)
    text_pages(made, render, settings, database)
    image_files(made, settings, database, decoder)
    upload_pages(made, render, settings, store)
    model_pages(made, render, settings, database)
    result_files(made, settings, database, decoder)
    peer_pages(made, render, settings, database)
    fetch_pages(made, render, settings, database)
    rules_pages(made, render, settings, database)
    for sign_in in (login_pages, first_pages, own_pages, provider_pages):
        sign_in(made, render, settings, database)
    account_pages(made, render, database)
    audit_pages(made, render, database)
    return made


def worklist_pages(made: APIRouter, render: Render, database: Database, reader: Reader) -> None:
    def page(name: str, done: str = "") -> HTMLResponse:
        shown = reader.worklist(time.time())
        with database.reading() as session:
            remarks = verdicts.remarks(session)
            marked = studies.study(session, done) if done and readings.of_study(session, done) else None
        return render(
            name, "Worklist", "worklist",
            worklist=shown, policy=reader.policy, overdue=reader.limits, remarks=remarks, marked=marked,
        )  # fmt: skip

    @made.get("/")
    def worklist(read: Annotated[str, Query(max_length=64)] = "") -> HTMLResponse:
        """read: the study that was just marked so. The list moves, and so may the row under a hand: it is named."""
        return page("worklist.html", read)

    @made.get("/fragments/worklist")
    def worklist_rows() -> HTMLResponse:
        return page("worklist_rows.html")


def study_pages(made: APIRouter, render: Render, settings: Settings, database: Database, reader: Reader) -> None:
    def page(name: str, study_uid: str) -> HTMLResponse:
        with database.reading() as session:
            story = studies.story(session, study_uid)
            there = addresses.destinations(session, settings)
            drawn, reading = drawings.of_study(session, study_uid), readings.of_study(session, study_uid)
            said, remark = verdicts.history(session, study_uid), verdicts.remarks(session).get(study_uid, "")
            texts = narrative_page.texts(session, settings.data, study_uid, settings.narrative.language)
            steps, names = narratives.history(session, study_uid), series_names.of(session, settings.data, study_uid)
            waits, refused = (
                waiting.of_study(session, settings, study_uid, time.time()),
                evidence.refusal(session, study_uid),
            )
        if story is None:
            what = mark("The node never received this study.")
            return render("missing.html", "Not here", "studies", 404, what=what, more=refused)
        row = reader.entry(study_uid, time.time())
        return render(
            name, title_of(story), "studies",
            story=story, entry=row, waits=waits, ran=any(j.revision == story.study.revision for j in story.jobs), reports=reader.reports_of(study_uid), results={r.uid: r for r in story.results},
            destinations={d.name for d in there}, withheld=withheld(settings, story),
            added=added(said), findings=rulings.rows(reader.reports_of(study_uid), said), rulings=said, remark=remark, drawings=drawn, reading=reading,
            texts=texts, narratives=steps, series_names=names,
        )  # fmt: skip

    @made.get("/studies")
    def all_studies(page: Annotated[int, Query(ge=1, le=100_000)] = 1) -> HTMLResponse:
        after = (page - 1) * ON_A_PAGE
        with database.reading() as session:
            found = studies.studies(session, limit=ON_A_PAGE, after=after)
            ran, many = studies.with_jobs(session), studies.many(session)
        of_all = {"many": many, "first": after + 1, "last": after + len(found), "page": page}
        return render("studies.html", "Studies", "studies", studies=found, ran=ran, of_all=of_all)

    @made.get("/studies/{study_uid}")
    def one_study(study_uid: StudyUid) -> HTMLResponse:
        return page("study.html", study_uid)

    @made.get("/studies/{study_uid}/patient")
    def patient(study_uid: StudyUid) -> HTMLResponse:
        """The history of the patient, found by this study, so that no address holds patient data."""
        with database.reading() as session:
            found, ran = studies.of_patient(session, study_uid), studies.with_jobs(session)
        if not found:
            return render("missing.html", "Not here", "studies", 404, what="The node never received this study.")
        return render("studies.html", "History of the patient", "studies", studies=found, ran=ran, of_all={})

    @made.get("/fragments/studies/{study_uid}")
    def one_study_parts(study_uid: StudyUid) -> HTMLResponse:
        return page("study_parts.html", study_uid)

    @made.post("/deliveries/{delivery_id}/send-again")
    def send_again(delivery_id: Number, study_uid: Annotated[str, Form(pattern=r"^[0-9.]{1,64}$")]) -> Response:
        problem = resend.send_again(database, settings, delivery_id, time.time())
        if problem:
            raise HTTPException(409, NOT_DEAD if problem == resend.NOT_DEAD else OVERTAKEN)
        return RedirectResponse(f"/studies/{study_uid}#deliveries", status_code=303)


def title_of(story: Story) -> str:
    return story.study.study_description or "Study"


def result_files(made: APIRouter, settings: Settings, database: Database, decoder: Decoder) -> None:
    def found(request: Request, uid: str, *kinds: str) -> StoredResult:
        with database.reading() as session:
            result = results.find(session, settings.data, uid)
        if result is None or (kinds and result.kind not in kinds):
            raise HTTPException(404, mark("There is no such result."))
        if not result.path.is_file():
            raise HTTPException(410, mark("The file of this result is gone."))
        request.state.study_uid = result.study_uid  # for the audit
        return result

    @made.get("/results/{uid}/file")
    def file(request: Request, uid: StudyUid) -> FileResponse:
        result = found(request, uid)
        media_type = MEDIA_TYPES.get(result.kind, "application/dicom")
        return FileResponse(result.path, media_type=media_type, filename=result.path.name)

    @made.get("/results/{uid}/picture.png")
    async def picture(request: Request, uid: StudyUid) -> Response:
        return await decoder.aside(lambda: shown(found(request, uid, "key-image").path))

    def shown(image: Path) -> Response:
        try:
            body = decoder.run(pictures.png, image)
        except Exception as e:  # a file that nothing can decode is not the page's failure
            raise HTTPException(422, f"This image cannot be shown: {type(e).__name__}.") from e
        return Response(body, media_type="image/png", headers={"cache-control": "private, max-age=600"})

    @made.get("/results/{uid}/text")
    def report_as_text(request: Request, uid: StudyUid) -> Response:
        text = pictures.report_text(found(request, uid, "sr").path)
        return Response(text, media_type="text/plain; charset=utf-8")


def image_files(made: APIRouter, settings: Settings, database: Database, decoder: Decoder) -> None:
    find = overlay.finder()

    def shown(study_uid: str, tracking_uid: str) -> tuple[Path, overlay.Shown]:
        with database.reading() as session:
            best = find(overlay.segmentations(session, settings.data, study_uid), tracking_uid)
            return overlay.image_file(session, settings.data, study_uid, best.sop_uid), best

    async def answer(make: Callable[[], bytes | str], media_type: str) -> Response:
        try:
            return Response(
                await decoder.aside(make), media_type=media_type, headers={"cache-control": "private, max-age=600"}
            )
        except overlay.NoPictureError as e:
            raise HTTPException(404, str(e)) from e
        except Exception as e:  # a file that nothing can decode is not the page's failure
            raise HTTPException(422, f"This image cannot be shown: {type(e).__name__}.") from e

    @made.get("/studies/{study_uid}/findings/{tracking_uid}/slice.png")
    async def finding_slice(study_uid: StudyUid, tracking_uid: StudyUid) -> Response:
        return await answer(lambda: decoder.run(overlay.slice_png, *shown(study_uid, tracking_uid)), "image/png")

    @made.get("/studies/{study_uid}/findings/{tracking_uid}/outline.svg")
    async def finding_outline(study_uid: StudyUid, tracking_uid: StudyUid) -> Response:
        return await answer(lambda: overlay.outline_svg(shown(study_uid, tracking_uid)[1]), "image/svg+xml")

    @made.get("/studies/{study_uid}/series/{series_uid}/thumbnail.png")
    async def thumbnail(study_uid: StudyUid, series_uid: StudyUid) -> Response:
        def make() -> bytes:
            with database.reading() as session:
                file = overlay.middle_file(session, settings.data, study_uid, series_uid)
            return decoder.run(overlay.thumbnail_png, file)

        return await answer(make, "image/png")
