"""Accounts that change at the same moment."""

import threading
from contextlib import suppress
from pathlib import Path

import pytest
from support.postgres import Postgres
from support.results import prepare

from radnode import accounts
from radnode.accounts import Role
from radnode.errors import RefusedError
from radnode.settings import Settings


@pytest.mark.system
def test_of_two_administrators_that_remove_each_other_one_stays(tmp_path: Path, postgres: Postgres) -> None:
    database = prepare(Settings(data=tmp_path / "data", database_url=postgres.new_database()))
    for name in ("ada", "bob"):
        accounts.add(database, name, Role.ADMINISTRATOR, "a long enough password 7", 1.0)
    for _ in range(20):
        both = threading.Barrier(2)

        def go(name: str, both: threading.Barrier = both) -> None:
            both.wait(60)
            with suppress(RefusedError):
                accounts.set_role(database, name, Role.READER)

        threads = [threading.Thread(target=go, args=(name,)) for name in ("ada", "bob")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        with database.reading() as session:
            roles = [account.role for account in accounts.accounts(session)]
        assert sorted(roles) == [Role.ADMINISTRATOR, Role.READER]
        for name in ("ada", "bob"):
            accounts.set_role(database, name, Role.ADMINISTRATOR)
    database.close()
