from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from radnode import migrations
from radnode.database import Database
from radnode.errors import SettingsError
from radnode.tables import Table


def test_an_empty_database_gets_exactly_the_tables_of_the_code(database_url: str) -> None:
    assert migrations.upgrade(database_url) == migrations.head()
    database = Database(database_url)
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Table.metadata) == []
    database.close()
    assert migrations.current(database_url) == migrations.head()


def test_a_second_upgrade_changes_nothing(database_url: str) -> None:
    migrations.upgrade(database_url)
    assert migrations.upgrade(database_url) == migrations.head()


def test_roles_that_start_at_the_same_time_upgrade_once(database_url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(migrations.upgrade, [database_url] * 4)) == {migrations.head()}


def test_a_newer_database_is_refused_and_left_as_it_is(database_url: str) -> None:
    migrations.upgrade(database_url)
    database = Database(database_url)
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'from-the-future'"))
    database.close()
    with pytest.raises(SettingsError, match="from-the-future") as error:
        migrations.upgrade(database_url)
    assert error.value.id == "database-newer"
    assert migrations.current(database_url) == "from-the-future"


def test_tables_of_unknown_origin_are_refused(database_url: str) -> None:
    database = Database(database_url)
    Table.metadata.create_all(database.engine)
    database.close()
    with pytest.raises(SettingsError) as error:
        migrations.upgrade(database_url)
    assert error.value.id == "database-foreign"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (("ALTER TABLE notices DROP COLUMN whose",), "notices.whose is missing."),
        (("DROP TABLE notices", "DROP TABLE audit"), "the table audit is missing, the table notices is missing"),
        (
            ("DROP TABLE notices", "CREATE TABLE notices (study_uid TEXT, level TEXT, reason TEXT, at FLOAT, whose TEXT, more TEXT NOT NULL)"),
            "notices.more is not known.",
        ),
        (("ALTER TABLE notices ADD COLUMN own TEXT",), ""),
    ],
)  # fmt: skip
def test_a_database_of_another_build_is_refused_though_its_revision_is_ours(
    database_url: str, changes: tuple[str, ...], said: str
) -> None:
    migrations.upgrade(database_url)
    database = Database(database_url)
    with database.engine.begin() as connection:
        for change in changes:
            connection.execute(text(change))
    database.close()
    if not said:
        assert migrations.upgrade(database_url) == migrations.head()
        return
    with pytest.raises(SettingsError, match=said) as error:
        migrations.upgrade(database_url)
    assert error.value.id == "database-build"
