"""The migrations, on a real Postgres."""

from __future__ import annotations

import multiprocessing
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import CheckConstraint, Engine, ForeignKeyConstraint, MetaData, create_engine, inspect, text
from sqlalchemy.engine import URL

import aind_pipelines
from aind_pipelines.clients.errors import ServiceError, ServiceUnavailable
from aind_pipelines.records.findings import Finding
from aind_pipelines.tables import constraints, schema
from aind_pipelines.tables.findings import record_findings
from aind_pipelines.tables.migrate import VERSION_TABLE, SchemaOutdated, drift, migrate, require_current, status
from aind_pipelines_tests.postgres import new_database


def test_a_migrated_database_holds_exactly_what_the_models_say(empty_database: URL) -> None:
    engine = create_engine(empty_database)
    before = status(engine)
    assert before.current is None
    assert not before.is_current
    assert migrate(empty_database).is_current
    assert drift(engine) == []
    comments = {(table.schema or "public", table.name): table.comment for table in schema.metadata.tables.values()}
    found = {(name, table): inspect(engine).get_table_comment(table, schema=name)["text"] for name, table in comments}
    assert found == comments
    engine.dispose()


def test_migrating_again_changes_nothing(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO public.subjects (subject_id, asset_count) VALUES ('676909', 1)"))
    assert migrate(engine) == status(engine)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM public.subjects")).scalar_one() == 1


def test_a_url_without_driver_is_taken_as_psycopg(empty_database: URL) -> None:
    plain = empty_database.set(drivername="postgresql").render_as_string(hide_password=False)
    assert migrate(plain).is_current


def _migrate_in_a_process(url: str) -> str | None:
    return migrate(url).current


def test_processes_that_migrate_at_once_take_turns(empty_database: URL) -> None:
    url = empty_database.render_as_string(hide_password=False)
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        versions = pool.map(_migrate_in_a_process, [url] * 3)
    assert len(set(versions)) == 1
    assert versions[0] is not None


def test_threads_that_migrate_at_once_take_turns(empty_database: URL) -> None:
    url = empty_database.render_as_string(hide_password=False)
    with ThreadPoolExecutor(4) as pool:
        assert all(found.is_current for found in pool.map(migrate, [url] * 4))


def test_a_migration_that_fails_leaves_the_database_as_it_was(empty_database: URL) -> None:
    engine = create_engine(empty_database)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE public.session_assets (mine int)"))
    with pytest.raises(ServiceError, match="session_assets"):
        migrate(engine)
    assert set(inspect(engine).get_table_names(schema="public")) == {"session_assets"}
    assert not set(inspect(engine).get_schema_names()) & set(schema.SCHEMAS)
    engine.dispose()


def test_an_old_schema_is_refused_with_the_command_that_helps(empty_database: URL) -> None:
    engine = create_engine(empty_database)
    with pytest.raises(SchemaOutdated, match=r"never been set up.*aind-pipelines db migrate"):
        require_current(engine)
    migrate(engine)
    require_current(engine)
    engine.dispose()


def test_a_schema_newer_than_this_code_is_refused_by_both(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    for refuse in (migrate, require_current):
        with pytest.raises(SchemaOutdated, match=r"9999.*Upgrade aind-pipelines"):
            refuse(engine)


def test_a_server_that_is_not_there_is_an_outage_and_the_password_is_not_told(empty_database: URL) -> None:
    with pytest.raises(ServiceUnavailable) as caught:
        migrate(empty_database.set(port=1, password="canary-7431"))
    assert "canary-7431" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("DROP INDEX docdb.ix_records_name", "index ix_records_name on docdb.records is missing"),
        ("ALTER TABLE public.subjects DROP COLUMN sex", "column public.subjects.sex is missing"),
        ("ALTER TABLE public.subjects ADD COLUMN mine int", "column public.subjects.mine is not in the models"),
        ("ALTER TABLE public.subjects ALTER asset_count TYPE text", "column public.subjects.asset_count: type"),
        ("ALTER TABLE public.subjects ALTER asset_count DROP NOT NULL", "public.subjects.asset_count: nullable"),
        ("DROP TABLE public.session_assets CASCADE", "table public.session_assets is missing"),
        ("CREATE TABLE archive.mine (id int)", "table archive.mine is not in the models"),
        ("DROP VIEW public.findings", "view public.findings is missing"),
        ("COMMENT ON COLUMN public.subjects.sex IS 'x'", "column public.subjects.sex: comment"),
        (
            "DROP FUNCTION docdb.records_as_of",
            "function docdb.records_as_of(at timestamp with time zone) is missing",
        ),
        (
            "CREATE FUNCTION archive.mine(n int) RETURNS int LANGUAGE sql RETURN n",
            "function archive.mine(n integer) is not in the models",
        ),
        (
            (
                "CREATE OR REPLACE VIEW public.table_status AS SELECT table_name, rows, published_at, changed_at, "
                "run_id FROM tables.publications WHERE rows > 0"
            ),
            "view public.table_status has another query than the models",
        ),
        (
            (
                "CREATE OR REPLACE FUNCTION docdb.content_hash(body jsonb) RETURNS text LANGUAGE sql IMMUTABLE "
                "AS $$ SELECT encode(sha256(convert_to(body::text, 'UTF8')), 'hex') $$"
            ),
            "function docdb.content_hash(body jsonb) is not defined as in the models",
        ),
        (
            (
                "DROP VIEW public.assets_with_missing_source; ALTER TABLE public.asset_lineage DROP COLUMN stated_by; "
                "CREATE VIEW public.assets_with_missing_source AS SELECT source_name FROM public.asset_lineage"
            ),
            "view public.assets_with_missing_source has another query than the models",
        ),
        (
            "ALTER TABLE public.funding DROP CONSTRAINT pk_funding",
            "(record_version, record_id, position) of public.funding",
        ),
        (
            "ALTER TABLE public.subjects DROP CONSTRAINT pk_subjects",
            "primary key (subject_id) of public.subjects is missing",
        ),
        (
            (
                "ALTER TABLE docdb.records DROP CONSTRAINT pk_records; "
                "ALTER TABLE docdb.records ADD CONSTRAINT pk_records PRIMARY KEY (id, record_version)"
            ),
            "primary key of docdb.records is (id, record_version), the models say (record_version, id)",
        ),
        (
            "ALTER TABLE public.subjects RENAME CONSTRAINT pk_subjects TO mine",
            "primary key of public.subjects is named mine, the models say pk_subjects",
        ),
        (
            "ALTER TABLE archive.copies ADD CONSTRAINT mine CHECK (size > 0)",
            "check mine on archive.copies is not in the models",
        ),
        (
            "ALTER TABLE public.subjects ADD CONSTRAINT mine UNIQUE (sex)",
            "constraint mine on public.subjects is not in the models",
        ),
        (
            (
                "ALTER TABLE public.modalities ADD CONSTRAINT mine FOREIGN KEY (record_id, record_version) "
                "REFERENCES public.data_assets (id, record_version)"
            ),
            "foreign key mine on public.modalities is not in the models",
        ),
        (
            "ALTER TABLE public.subjects ADD CONSTRAINT mine EXCLUDE (sex WITH =)",
            "exclusion constraint mine on public.subjects is not in the models",
        ),
        (
            (
                "CREATE TRIGGER mine BEFORE UPDATE ON tables.publications FOR EACH ROW "
                "EXECUTE FUNCTION suppress_redundant_updates_trigger()"
            ),
            "trigger mine on tables.publications is not in the models",
        ),
        (
            "CREATE RULE mine AS ON DELETE TO public.subjects DO INSTEAD NOTHING",
            "rule mine on public.subjects is not in the models",
        ),
        (
            "ALTER TABLE public.data_assets ENABLE ROW LEVEL SECURITY",
            "row security of public.data_assets is on, the models have none",
        ),
        (
            "ALTER TABLE public.data_assets FORCE ROW LEVEL SECURITY",
            "row security of public.data_assets is forced, the models have none",
        ),
        (
            "CREATE POLICY mine ON public.data_assets USING (true)",
            "policy mine on public.data_assets is not in the models",
        ),
        ("ALTER TABLE indexes.refreshes SET UNLOGGED", "table indexes.refreshes is unlogged"),
        *(
            (f"CREATE VIEW {of}.mine AS SELECT 1 AS one", f"view {of}.mine is not in the models")
            for of in schema.SCHEMAS
        ),
        (
            "CREATE MATERIALIZED VIEW archive.mine AS SELECT 1 AS one",
            "materialized view archive.mine is not in the models",
        ),
        ("COMMENT ON COLUMN public.subjects.sex IS NULL", "column public.subjects.sex: comment is None"),
        ("COMMENT ON TABLE public.subjects IS 'x'", "table public.subjects: comment is 'x', the models say 'One row"),
        ("COMMENT ON TABLE docdb.records IS NULL", "table docdb.records: comment is None, the models say"),
    ],
)
def test_every_kind_of_drift_is_told(engine: Engine, change: str, told: str) -> None:
    with engine.begin() as connection:
        connection.execute(text(change))
    assert any(told in line for line in drift(engine)), drift(engine)


def test_a_constraint_of_the_models_that_is_missing_is_drift(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    models = MetaData(naming_convention=schema.metadata.naming_convention)
    for table in schema.metadata.tables.values():
        table.to_metadata(models)
    subjects, copies = models.tables["subjects"], models.tables["archive.copies"]
    subjects.append_constraint(CheckConstraint("asset_count > 0", name="Named"))
    copies.append_constraint(ForeignKeyConstraint(["session_id"], ["session_assets.session_id"]))
    monkeypatch.setattr(constraints, "metadata", models)
    lacking = [
        "check ck_subjects_Named on public.subjects",
        "foreign key fk_copies_session_id_session_assets on archive",
    ]
    found = drift(engine)
    assert [any(words in line and line.endswith("is missing") for line in found) for words in lacking] == [True, True]
    assert len(found) == 2
    with engine.begin() as connection:
        connection.execute(text('ALTER TABLE subjects ADD CONSTRAINT "ck_subjects_Named" CHECK (asset_count > 0)'))
        connection.execute(
            text(
                "ALTER TABLE archive.copies ADD CONSTRAINT fk_copies_session_id_session_assets "
                "FOREIGN KEY (session_id) REFERENCES session_assets"
            )
        )
        made = list(constraints.differences(connection))
    assert made == []


def test_another_server_of_ours_shows_no_drift_either_and_the_same_one(debian_postgres_url: URL) -> None:
    with new_database(debian_postgres_url) as url:
        migrate(url)
        engine = create_engine(url)
        try:
            assert drift(engine) == []
            with engine.begin() as connection:
                connection.execute(text("ALTER TABLE public.subjects DROP CONSTRAINT pk_subjects"))
                connection.execute(text("ALTER TABLE archive.copies ADD CONSTRAINT mine CHECK (size > 0)"))
            assert drift(engine) == [
                "check mine on archive.copies is not in the models",
                "primary key (subject_id) of public.subjects is missing",
            ]
        finally:
            engine.dispose()


def test_comparing_leaves_nothing_behind_and_says_when_it_cannot_look(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE ROLE watcher LOGIN PASSWORD 'watcher' IN ROLE pg_read_all_data"))
        database = connection.scalar(text("SELECT current_database()"))
        connection.execute(text(f'REVOKE TEMPORARY ON DATABASE "{database}" FROM PUBLIC'))
    watcher = create_engine(engine.url.set(username="watcher", password="watcher"))
    try:
        assert drift(engine) == []
        (line,) = drift(watcher)
        assert "may not make temporary objects" in line
    finally:
        watcher.dispose()
        with engine.begin() as connection:
            connection.execute(text("DROP OWNED BY watcher; DROP ROLE watcher"))
    with engine.connect() as connection:
        left = (
            "SELECT count(*) FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname LIKE 'pg_temp%'"
        )
        assert connection.scalar(text(left)) == 0


def test_tables_that_others_keep_in_public_are_no_drift(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE public.spike_sorting_urls (url text PRIMARY KEY)"))
        connection.execute(text("CREATE SCHEMA theirs"))
        connection.execute(text("CREATE TABLE theirs.notes (id int CHECK (id > 0))"))
        connection.execute(text("CREATE VIEW public.mine AS SELECT url FROM public.spike_sorting_urls"))
        connection.execute(text("ALTER TABLE public.spike_sorting_urls ENABLE ROW LEVEL SECURITY"))
    assert drift(engine) == []


def test_the_findings_view_shows_what_stands_in_every_stage(engine: Engine) -> None:
    with engine.begin() as connection:
        for stage, table in schema.FINDINGS.items():
            record_findings(connection, table, [Finding("odd", f"{stage} thing")], scope="all")
        record_findings(connection, schema.FINDINGS["archive"], [], scope="all")
        rows = connection.execute(text("SELECT stage, key FROM public.findings")).all()
    assert {tuple(row) for row in rows} == {
        (stage, f"{stage} thing") for stage in schema.FINDINGS if stage != "archive"
    }


def test_the_package_migrates_from_a_path_with_odd_characters(empty_database: URL, tmp_path: Path) -> None:
    home = tmp_path / "site 100%"
    shutil.copytree(Path(aind_pipelines.__file__).parent, home / "aind_pipelines")
    url = empty_database.render_as_string(hide_password=False)
    code = f"from aind_pipelines.tables.migrate import migrate; migrate({url!r})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(home)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert migrate(empty_database).is_current
