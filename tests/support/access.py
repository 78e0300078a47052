"""A node with people and tokens: a reader and an administrator, and a token for each scope."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from support.pages import serving
from support.results import prepare

from radnode import accounts, accounts_tokens
from radnode.accounts import Role
from radnode.accounts_tokens import Scope
from radnode.database import Database
from radnode.settings import Settings, Web

PASSWORD = "a long enough passphrase"
READER, ADMINISTRATOR = "rita", "adam"


@dataclass(frozen=True, kw_only=True)
class People:
    """tokens: scope -> secret."""

    settings: Settings
    database: Database
    tokens: Mapping[Scope, str]


def people(folder: Path, **web: object) -> People:
    settings = Settings(data=folder, web=Web.model_validate({"login": "required"} | web))
    database = prepare(settings)
    now = time.time()
    accounts.add(database, READER, Role.READER, PASSWORD, now)
    accounts.add(database, ADMINISTRATOR, Role.ADMINISTRATOR, PASSWORD, now)
    tokens = {s: accounts_tokens.add(database, s, {s}, ADMINISTRATOR, now, days=1) for s in Scope}
    return People(settings=settings, database=database, tokens=tokens)


@contextmanager
def served(here: People) -> Iterator[httpx.Client]:
    with serving(here.settings) as client:
        client.timeout = httpx.Timeout(60)
        client.headers["origin"] = f"http://{client.base_url.netloc.decode()}"  # as a browser says with each form
        yield client


def sign_in(client: httpx.Client, name: str, password: str = PASSWORD) -> httpx.Response:
    return client.post("/login", data={"name": name, "password": password}, follow_redirects=False)
