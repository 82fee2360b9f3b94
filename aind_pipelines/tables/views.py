"""Views and SQL functions as the models have them, and how a database's differ.

Migrations made them and keep the texts they made them of; these are the texts in force. Postgres keeps a view's query
as a tree and writes it in its own words, which differ between its versions, so two texts are compared by letting the
server write both: the expected one is made as a temporary view, which ends with the transaction.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.exc import ProgrammingError

from aind_pipelines.tables.schema import FINDINGS, SCHEMAS

VIEWS = {
    "findings": " UNION ALL ".join(
        f"SELECT '{stage}' AS stage, code, key, field, message, scope, first_seen, last_seen, run_id "  # noqa: S608
        f"FROM {table.fullname} WHERE resolved_at IS NULL"
        for stage, table in FINDINGS.items()
    ),
    "assets_current": """
        SELECT DISTINCT ON (location)
            location, record_version, id, source, name, schema_version, created, modified, content_hash, body,
            first_seen, last_changed
        FROM docdb.records
        WHERE location IS NOT NULL
        ORDER BY location, record_version DESC, modified DESC NULLS LAST, id
    """,
    "table_status": "SELECT table_name, rows, published_at, changed_at, run_id FROM tables.publications",
    "latest_processed_assets": """
        SELECT DISTINCT ON (session.session_id, derived.process)
            session.session_id, session.subject_id, session.platform, session.session_time, derived.process,
            derived.name, derived.code_ocean_id, derived.location, derived.created
        FROM public.session_assets AS session
        CROSS JOIN LATERAL jsonb_to_recordset(session.derived)
            AS derived(name text, process text, code_ocean_id text, location text, created timestamptz)
        ORDER BY session.session_id, derived.process, derived.created DESC NULLS LAST, derived.name DESC
    """,
    "sessions_by_subject_and_month": """
        SELECT subject_id, month, count(*) AS sessions, count(raw_asset_name) AS with_raw_asset,
            count(*) FILTER (WHERE jsonb_array_length(derived) > 0) AS with_derived_assets,
            array_agg(DISTINCT platform ORDER BY platform) AS platforms
        FROM public.session_assets
        GROUP BY subject_id, month
    """,
    "assets_without_metadata": """
        WITH found AS (
            SELECT 's3' AS found_in, prefix AS name, 's3://' || bucket || '/' || prefix AS location,
                NULL AS code_ocean_id, session_id
            FROM indexes.s3_prefixes
            UNION ALL
            SELECT 'code_ocean', name, location, id, session_id FROM indexes.code_ocean_assets
        )
        SELECT found_in, name, location, code_ocean_id, session_id
        FROM found
        WHERE session_id IS NOT NULL
            AND NOT EXISTS (SELECT FROM public.data_assets AS asset WHERE asset.name = found.name)
            AND NOT EXISTS (SELECT FROM public.data_assets AS asset WHERE asset.location = found.location)
            AND NOT EXISTS (
                SELECT FROM (SELECT unnest(code_ocean_ids) AS id FROM public.data_assets) AS named
                WHERE named.id = found.code_ocean_id
            )
    """,
    "assets_with_missing_source": """
        SELECT derived_name, source_name, stated_by, record_version, record_id,
            EXISTS (SELECT FROM indexes.s3_prefixes AS folder WHERE folder.prefix = lineage.source_name)
                AS source_in_s3,
            EXISTS (SELECT FROM indexes.code_ocean_assets AS asset WHERE asset.name = lineage.source_name)
                AS source_in_code_ocean
        FROM public.asset_lineage AS lineage
        WHERE source_record_id IS NULL
    """,
}
"""Views in ``public``: their queries by name."""

FUNCTIONS = {
    "docdb.content_hash(body jsonb)": """
        RETURNS text
        LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
        AS $$ SELECT encode(sha256(convert_to(body::text, 'UTF8')), 'hex') $$
    """,
    "docdb.records_as_of(at timestamp with time zone)": """
        RETURNS TABLE (
            record_version text, id text, source text, content_hash text, body jsonb, valid_from timestamptz,
            run_id text
        )
        LANGUAGE sql STABLE PARALLEL SAFE
        AS $$
            SELECT record_version, id, source, content_hash, body, valid_from, run_id
            FROM docdb.record_versions
            WHERE valid_from <= at AND (valid_to IS NULL OR valid_to > at)
        $$
    """,
}
"""Functions in our schemas: what follows their signature, by the signature as Postgres writes it."""

_VIEWS_THERE = text(
    "SELECT viewname, pg_get_viewdef(format('public.%I', viewname)::regclass) FROM pg_views "
    "WHERE schemaname = 'public' AND viewname = ANY(:names)"
)
_FUNCTIONS_THERE = text(
    "SELECT format('%s.%s(%s)', nspname, proname, pg_get_function_identity_arguments(pg_proc.oid)), "
    "provolatile, proparallel, proisstrict, pg_get_function_result(pg_proc.oid), "
    "regexp_replace(btrim(prosrc, E' \\n'), '\\s+', ' ', 'g') "
    "FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace WHERE nspname = ANY(:schemas)"
)


def differences(connection: Connection) -> Iterator[str]:
    """How views and functions differ from the models, one line each.

    Makes temporary objects and rolls them back: `connection` should have nothing to commit.
    """
    views: dict[str, str] = dict(connection.execute(_VIEWS_THERE, {"names": list(VIEWS)}).all())
    functions = _functions_of(connection, list(SCHEMAS))
    yield from (f"view public.{name} is missing" for name in VIEWS if name not in views)
    yield from (f"function {name} is missing" for name in FUNCTIONS if name not in functions)
    yield from (f"function {name} is not in the models" for name in functions if name not in FUNCTIONS)
    if not connection.scalar(text("SELECT has_database_privilege(current_database(), 'TEMPORARY')")):
        yield (
            "what views and functions do cannot be compared: this login may not make temporary objects "
            "(GRANT TEMPORARY ON DATABASE ... TO ...)"
        )
        return
    try:
        expected_views = {name: _view_as_written(connection, VIEWS[name]) for name in views}
        expected_functions = {name: _function_as_written(connection, name) for name in FUNCTIONS if name in functions}
    finally:
        connection.rollback()
    for name, query in expected_views.items():
        if views[name] != query:
            yield f"view public.{name} has another query than the models"
    for name, definition in expected_functions.items():
        if functions[name] != definition:
            yield f"function {name} is not defined as in the models"


def _view_as_written(connection: Connection, query: str) -> str | None:
    """The query as this server writes it; None when the tables there do not allow it."""
    try:
        with connection.begin_nested() as made:
            connection.exec_driver_sql(f"CREATE TEMPORARY VIEW expected_view AS {query}")
            written: str = connection.exec_driver_sql(
                "SELECT pg_get_viewdef('pg_temp.expected_view'::regclass)"
            ).scalar_one()
            made.rollback()
    except ProgrammingError:
        return None
    return written


def _function_as_written(connection: Connection, name: str) -> list[Any] | None:
    """What `_functions_of` gives for the model's definition; None when the tables there do not allow it."""
    bare = name.partition(".")[2]
    try:
        with connection.begin_nested() as made:
            connection.exec_driver_sql(f"CREATE FUNCTION pg_temp.{bare} {FUNCTIONS[name]}")
            schema = connection.scalar(text("SELECT nspname FROM pg_namespace WHERE oid = pg_my_temp_schema()"))
            found = _functions_of(connection, [schema])[f"{schema}.{bare}"]
            made.rollback()
    except ProgrammingError:
        return None
    return found


def _functions_of(connection: Connection, schemas: list[str]) -> dict[str, list[Any]]:
    """How the functions in these schemas are defined, by signature; blanks in the body do not matter."""
    rows = connection.execute(_FUNCTIONS_THERE, {"schemas": schemas})
    return {signature: definition for signature, *definition in rows}
