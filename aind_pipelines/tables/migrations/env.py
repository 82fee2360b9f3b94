"""Alembic's entry: runs the versions on the connection that `aind_pipelines.tables.migrate` holds."""

from __future__ import annotations

from alembic import context

from aind_pipelines.tables.migrate import comparison_options

connection = context.config.attributes.get("connection")
if connection is None:
    raise RuntimeError("The schema is migrated by: aind-pipelines db migrate")
context.configure(connection=connection, **comparison_options())
context.run_migrations()
