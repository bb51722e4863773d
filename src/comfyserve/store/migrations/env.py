"""Alembic's entry: runs the missing revisions over the connection that `migrate` hands in."""

from alembic import context

from comfyserve.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite cannot alter a table in place; Alembic then copies it.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
