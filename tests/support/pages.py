"""The node's web application on a real socket, in a thread of the test."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import uvicorn

from radnode.settings import Settings
from radnode.web import app
from radnode.web.connection import Bounded

START_S = 120.0


@contextmanager
def serving(settings: Settings) -> Iterator[httpx.Client]:
    """A client of `app.create(settings)`, which follows redirects as a browser does."""
    config = uvicorn.Config(
        app.create(settings),
        http=Bounded,
        host="127.0.0.1",
        port=0,
        log_config=None,
        access_log=False,
        proxy_headers=False,
    )
    with (
        running(config, settings) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", follow_redirects=True, timeout=60.0) as client,
    ):
        yield client


@contextmanager
def running(config: uvicorn.Config, settings: Settings) -> Iterator[int]:
    """The port of a server in a thread of the test."""
    file = settings.data / "run" / "test.port"
    server = app.Server(config, file)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        end = time.monotonic() + START_S
        while not file.exists():
            assert thread.is_alive() and time.monotonic() < end, "the server did not start"
            time.sleep(0.02)
        yield int(file.read_text())
    finally:
        server.should_exit = True
        thread.join(60)
        file.unlink(missing_ok=True)
