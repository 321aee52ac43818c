"""Run by Alembic. The connection, in a transaction already, comes from `database.migrate`, which commits."""

from alembic import context

from edgewright.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
