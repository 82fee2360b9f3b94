"""Alembic migrations of the RDS schema, applied by `aind_pipelines.tables.migrate`.

Each version is written out in full: it must keep making the same tables when the models have moved on.
"""
