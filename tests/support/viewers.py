"""The viewers that radiologists have, OHIF and dwv, served over an Orthanc and driven in a headless Chromium."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from playwright.sync_api import Browser, sync_playwright
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from support.orthanc import Orthanc

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = ROOT / "tests" / "viewers"
FETCHED = ROOT / ".venv" / "viewers"
CHROMIUM = [
    "--no-sandbox",
    "--use-angle=swiftshader",  # WebGL without a graphics card
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
]
START_S = 120.0
WAIT_MS = 90_000.0


def fetched() -> Path:
    """The folder that `tests/viewers/fetch.sh` filled."""
    if not (FETCHED / "complete").is_file():
        pytest.fail("The viewers are not there: run `make viewers`.")
    return FETCHED.resolve()


class Isolated(BaseHTTPMiddleware):
    """The headers without which a browser gives a page no shared memory, which OHIF's volumes need."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
        response.headers["Cross-Origin-Embedder-Policy"] = "require-corp"
        return response


def application(pacs_url: str) -> Starlette:
    """OHIF at /, dwv at /dwv.html; of the PACS /dicom-web, /wado and /instances/SOP Instance UID: one origin, so no CORS."""
    folder = fetched()
    # a connection each: Orthanc closes idle ones, now and then just as the next request goes out
    client = httpx.AsyncClient(base_url=pacs_url, timeout=120.0, limits=httpx.Limits(max_keepalive_connections=0))

    async def pacs(request: Request) -> Response:
        passed = {k: v for k, v in request.headers.items() if k in ("accept", "host", "content-type")}
        answer = await client.request(
            request.method, request.url.path, params=request.query_params, headers=passed, content=await request.body()
        )
        return Response(answer.content, answer.status_code, media_type=answer.headers.get("content-type"))

    async def instance(request: Request) -> Response:
        found = (await client.post("/tools/lookup", content=request.path_params["uid"])).json()
        answer = await client.get(f"/instances/{found[0]['ID']}/file")
        return Response(answer.content, answer.status_code, media_type="application/dicom")

    def page(file: Path) -> Route:
        return Route(f"/{file.name}", lambda _: FileResponse(file))

    async def ohif(request: Request) -> Response:
        file = (folder / "app" / "dist" / request.path_params["path"]).resolve()
        inside = file.is_file() and file.is_relative_to(folder)
        return FileResponse(file if inside else folder / "app" / "dist" / "index.html")

    return Starlette(
        middleware=[Middleware(Isolated)],
        routes=[
            Route("/dicom-web/{path:path}", pacs, methods=["GET", "POST"]),
            Route("/wado", pacs),
            Route("/instances/{uid}", instance),
            page(PAGES / "app-config.js"),
            page(PAGES / "dwv.html"),
            Mount("/packages", StaticFiles(directory=folder)),
            Route("/{path:path}", ohif),
        ],
    )


@contextmanager
def viewers(pacs: Orthanc) -> Iterator[str]:
    """The address of the viewers, which show what is in `pacs`."""
    server = uvicorn.Server(uvicorn.Config(application(pacs.url), host="127.0.0.1", port=0, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        end = time.monotonic() + START_S
        while not server.started:
            assert thread.is_alive() and time.monotonic() < end, "the viewers' server did not start"
            time.sleep(0.02)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(60)


def patient(make: Callable[..., Any]) -> Callable[..., Any]:
    """What is waited for ends a wait when it comes; a slow machine has its time until then."""

    def made(**given: Any) -> Any:
        new = make(**given)
        new.set_default_timeout(WAIT_MS)
        return new

    return made


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium that can draw."""
    program = shutil.which("chromium")
    if program is None:
        pytest.fail("Chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=CHROMIUM, timeout=120_000)
        browser.new_page, browser.new_context = patient(browser.new_page), patient(browser.new_context)
        try:
            yield browser
        finally:
            browser.close()
