"""`/healthz` says that the process lives, whatever the database does: Kubernetes ends the whole node when it does not."""

import threading
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from support.pages import serving
from support.postgres import Postgres
from support.receiver import wait_until
from support.results import prepare

from radnode.settings import Settings

THREADS = 40
"""Of the web process for requests (anyio's default)."""
PAGES = THREADS + 5


@pytest.mark.system
def test_it_answers_while_every_thread_waits_for_a_locked_table(tmp_path: Path, postgres: Postgres) -> None:
    """As VACUUM FULL or a migration locks it, while pages are open."""
    settings = Settings(data=tmp_path / "data", database_url=postgres.new_database())
    (settings.data / "run").mkdir(parents=True)
    database = prepare(settings)
    with serving(settings) as client:
        waiting: list[threading.Thread] = []

        def ask() -> None:
            with suppress(httpx.HTTPError):
                httpx.get(client.base_url.join("/studies"), timeout=60)

        with database.engine.begin() as locked:
            locked.exec_driver_sql("LOCK TABLE studies, events IN ACCESS EXCLUSIVE MODE")
            for _ in range(PAGES):
                waiting.append(threading.Thread(target=ask))
                waiting[-1].start()
            wait_until(lambda: sum("AnyIO" in t.name for t in threading.enumerate()) >= THREADS, 60, "waiting requests")
            assert client.get("/healthz", timeout=20).text == "ok\n"
        for thread in waiting:
            thread.join(60)
    database.close()
