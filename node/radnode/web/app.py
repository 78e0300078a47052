"""The page, the API and STOW-RS as one application. `door` asks who is there before anything else happens."""

import asyncio
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from radnode import accounts_start, policies, sending, tls
from radnode.database import Database
from radnode.settings import Settings
from radnode.store import Store
from radnode.tls import CIPHERS
from radnode.web import api, changes, dicomweb, fhir, metrics, pages
from radnode.web.connection import Bounded
from radnode.web.door import Door
from radnode.web.forms import Forms
from radnode.web.guard import Guard
from radnode.web.i18n import Language
from radnode.web.refused import refusals
from radnode.worklist import Reader

STATIC = Path(__file__).parent / "static"
STOP_S = 2

DESCRIPTION = """What the node received, what its models said, and in which order to read.

A person signs in at /login. A machine shows a token: `Authorization: Bearer rn_…` (`radnode tokens add`)."""


def create(settings: Settings) -> FastAPI:
    """The application. It opens no connection before the first request and closes all when it is shut down."""
    database = Database(settings.url)
    reader = Reader.of(settings, database)
    store = Store(settings, database)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        sending.forget_web(database)
        yield
        store.close()

    app = FastAPI(
        title="radnode",
        version=version("radnode"),
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    refuse = refusals(app, settings)
    app.add_middleware(Forms, refuse=refuse)
    app.add_middleware(Door, web=settings.web, database=database, refuse=refuse)
    app.add_middleware(Language)
    app.add_middleware(Guard, host="" if settings.web.behind_proxy else settings.web.host)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.include_router(pages.router(settings, database, reader, store))
    app.include_router(changes.router(database))
    app.include_router(api.router(database, reader), prefix="/api")
    app.include_router(fhir.router(database, settings), prefix="/fhir")
    app.include_router(metrics.router(settings, database))
    app.include_router(dicomweb.router(settings, store))
    return app


class Server(uvicorn.Server):
    """Writes the port it listens on to `file`, complete and only when it does listen."""

    def __init__(self, config: uvicorn.Config, file: Path) -> None:
        super().__init__(config)
        self.file = file

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            port = self.servers[0].sockets[0].getsockname()[1]
            await asyncio.to_thread(write_port, self.file, port)


def write_port(file: Path, port: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f"{file.name}.{os.getpid()}.part")
    temporary.write_text(f"{port}\n")
    temporary.replace(file)


def encryption(settings: Settings) -> dict[str, Any]:
    """Uvicorn's settings for TLS 1.2 and later by the recommended ciphers (BCP 195); none without a certificate.

    Raises OSError when a file cannot be used; uvicorn itself would ask at the terminal for the password of a key.
    """
    web = settings.web
    if web.certificate is None:
        return {}
    try:
        tls.web(web)
    except OSError as e:
        raise OSError(f"the page cannot be served over TLS: {e}") from e
    made: dict[str, Any] = {"ssl_certfile": str(web.certificate), "ssl_keyfile": str(web.certificate_key)}
    if web.client_ca is not None:
        made |= {"ssl_ca_certs": str(web.client_ca), "ssl_cert_reqs": ssl.CERT_REQUIRED}
    return made | {"ssl_ciphers": CIPHERS}


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Raises SettingsError."""
    accounts_start.refuse_unsafe(settings)
    database = Database(settings.url)
    policies.remember(database, settings, time.time())
    database.close()
    Server(configuration(settings), settings.data / "run" / "web.port").run()


def configuration(settings: Settings) -> uvicorn.Config:
    """How the page is served: without an access log, and over TLS where the settings name a certificate."""
    made = uvicorn.Config(
        create(settings),
        http=Bounded,
        host=settings.web.host,
        port=settings.web.port,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # `door` believes only the proxy of the settings
        **encryption(settings),
        timeout_graceful_shutdown=STOP_S,
    )
    made.load()
    if made.ssl is not None:
        made.ssl.minimum_version = ssl.TLSVersion.TLSv1_2
    return made
