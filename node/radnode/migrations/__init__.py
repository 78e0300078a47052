"""The database's schema, step by step: one file in `versions/` for each step, applied in order by Alembic."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from radnode.database import Database
from radnode.errors import SettingsError
from radnode.tables import Table

ADVISORY_LOCK = 0x52414432
"""PostgreSQL: one role at a time looks at the schema and changes it."""


def upgrade(url: str) -> str:
    """Bring the database to this version's schema, if it is empty or older; returns the revision.

    Raises SettingsError when the database is newer than this version of radnode, of another build, or holds something else.
    """
    database = Database(url)
    try:
        with database.engine.begin() as connection:
            lock(connection)
            check(connection)
            command.upgrade(config(connection), "head")
            check_columns(connection)
        return head()
    finally:
        database.close()


def current(url: str) -> str:
    """The revision the database has, "" when it is empty. Changes nothing."""
    database = Database(url)
    try:
        with database.engine.connect() as connection:
            return revision(connection)
    finally:
        database.close()


def head() -> str:
    """The newest revision that this version of radnode knows."""
    return scripts().get_current_head() or ""


def lock(connection: Connection) -> None:
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})


def check(connection: Connection) -> None:
    """Raises SettingsError unless the schema is empty, older or current."""
    found = revision(connection)
    if found and not is_known(found):
        raise SettingsError(
            "database-newer",
            f"The database has the schema {found}, which this version of radnode does not know.",
            "Start the newer version of radnode that made it, or restore a backup made before the upgrade.",
        )
    if not found and set(inspect(connection).get_table_names()) & set(Table.metadata.tables):
        raise SettingsError(
            "database-foreign",
            "The database has tables of the node's names, but no schema revision.",
            "Point database_url at an empty database.",
        )


def check_columns(connection: Connection) -> None:
    """Raises SettingsError unless the tables are those of the code: before 1.0 the first step grows, and its name stays."""
    there = {name: columns for (_, name), columns in inspect(connection).get_multi_columns().items()}
    wrong = []
    for table in Table.metadata.sorted_tables:
        if table.name not in there:
            wrong.append(f"the table {table.name} is missing")
            continue
        found = {c["name"]: c for c in there[table.name]}
        wrong += [f"{table.name}.{c.name} is missing" for c in table.columns if c.name not in found]
        wrong += [
            f"{table.name}.{name} is not known"
            for name, c in found.items()
            if name not in table.columns and not c["nullable"] and c["default"] is None
        ]
    if wrong:
        raise SettingsError(
            "database-build",
            f"The database was made by another build of radnode: {', '.join(wrong[:3])}{', ...' if len(wrong) > 3 else ''}.",
            "Start the build that made it; or take an empty database: the images in the data folder are found again, "
            "results and history are not.",
        )


def revision(connection: Connection) -> str:
    if "alembic_version" not in inspect(connection).get_table_names():
        return ""
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar() or ""


def is_known(name: str) -> bool:
    return name in {script.revision for script in scripts().walk_revisions()}


def scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(config())


def config(connection: Connection | None = None) -> Config:
    made = Config()
    made.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    made.attributes["connection"] = connection
    return made
