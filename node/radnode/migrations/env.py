"""What Alembic runs for every command: the caller's connection, in the caller's transaction."""

from alembic import context

from radnode.tables import Table

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Table.metadata,
    transactional_ddl=True,
)
context.run_migrations()
