"""Every row of one database into another, between SQLite and PostgreSQL in any direction, from one moment of the source."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Integer, delete, func, insert, inspect, select

from radnode.audit import Kind
from radnode.database import Database
from radnode.tables import Table
from radnode.tables_access import AuditRow

AT_ONCE = 2000
LIFE = (Kind.START, Kind.STOP)
OF_A_START = frozenset({"peers", "policies", "refusals", "capabilities", "audit_head", "audit"})
"""Tables that a new schema, a first start or `radnode check` fills; the audit only with starts and stops."""


@contextmanager
def snapshot(database: Database) -> Iterator[Connection]:
    """A connection that sees the database as it stands now, whatever is written meanwhile; it holds up no writer."""
    with database.engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN")  # WAL: the first read fixes what is seen
            connection.exec_driver_sql("SELECT count(*) FROM alembic_version")
        else:
            connection = connection.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True, stream_results=True
            )
        yield connection
        connection.rollback()


def copy(source: Connection, target: Connection) -> dict[str, int]:
    """Copy every table that this version knows, those that are referred to first; rows by table.

    Both have this version's schema; the target's tables are empty. The caller commits.
    """
    copied = {}
    for table in Table.metadata.sorted_tables:
        rows = 0
        for part in source.execute(select(table)).mappings().partitions(AT_ONCE):
            target.execute(insert(table), [dict(row) for row in part])
            rows += len(part)
        copied[table.name] = rows
    if target.dialect.name == "postgresql":
        go_on_counting(target)
    return copied


def go_on_counting(target: Connection) -> None:
    """PostgreSQL: the next id of each table follows the highest one that was copied."""
    for table in Table.metadata.sorted_tables:
        column = table.autoincrement_column
        if column is None or not isinstance(column.type, Integer):
            continue
        highest = target.scalar(select(func.max(column)))
        if highest is not None:
            sequence = func.pg_get_serial_sequence(table.name, column.name)
            target.execute(select(func.setval(sequence, highest)))


def empty(target: Connection) -> None:
    """Delete every row. Only for a database that was empty before an unfinished copy. The caller commits."""
    for table in reversed(Table.metadata.sorted_tables):
        target.execute(delete(table))


def is_empty(connection: Connection) -> bool:
    """Whether nothing happened here yet, but for what a first start writes by itself."""
    there = set(inspect(connection).get_table_names())
    known = [t for t in Table.metadata.sorted_tables if t.name in there - OF_A_START]
    if "audit" in there and connection.scalar(select(AuditRow.number).where(AuditRow.kind.not_in(LIFE)).limit(1)):
        return False
    return all(connection.execute(select(t).limit(1)).first() is None for t in known)


def unknown(connection: Connection) -> list[str]:
    """Tables that are not the node's: they are not copied."""
    return sorted(set(inspect(connection).get_table_names()) - set(Table.metadata.tables) - {"alembic_version"})
