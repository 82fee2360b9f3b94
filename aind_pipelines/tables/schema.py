"""The RDS schema as SQLAlchemy models: what Alembic migrates to.

Analysts' tables are in ``public``; ours are in ``docdb``, ``metadata_service``, ``indexes``, ``archive`` and
``tables``. Every stage has a ``findings`` table of one shape (see `aind_pipelines.tables.findings`).

All times are ``timestamptz`` unless a column says otherwise; sizes are bytes.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Date, DateTime, Index, Integer, Table, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from aind_pipelines.tables.analysts import RECORD_TABLES
from aind_pipelines.tables.columns import made_of, metadata, record_columns
from aind_pipelines.tables.columns import time_column as _time

SCHEMAS = ("docdb", "metadata_service", "indexes", "archive", "tables")


def _findings(schema: str, subject: str) -> Table:
    return Table(
        "findings",
        metadata,
        Column("code", Text, primary_key=True, comment="kind of finding"),
        Column("key", Text, primary_key=True, comment=subject),
        Column("field", Text, primary_key=True, comment="dotted path within it, empty for the whole"),
        Column("message", Text, nullable=False, comment="what was found, for a person"),
        Column(
            "scope",
            Text,
            nullable=False,
            comment="the pass that owns the finding; only that pass resolves it",
        ),
        _time("first_seen", "when it was first found", nullable=False, now=True),
        _time("last_seen", "when it was last found", nullable=False, now=True),
        _time("resolved_at", "when a later pass no longer found it; null while it stands"),
        Column("run_id", Text, comment="Dagster run that last saw it"),
        Index("ix_findings_key", "key"),
        schema=schema,
        comment="What is not as it should be, with its history",
    )


# --- docdb: the mirror of the document database ------------------------------------------------------------------

docdb_records = Table(
    "records",
    metadata,
    Column("record_version", Text, primary_key=True, comment="v1 or v2, from the record's content"),
    Column("id", Text, primary_key=True, comment="the record's _id"),
    Column("source", Text, nullable=False, comment="database.collection it was read from"),
    Column("name", Text, comment="asset name"),
    Column("location", Text, comment="S3 location of the asset"),
    Column("schema_version", Text, comment="the record's own schema_version"),
    _time("created", "record creation time as the record states it, UTC where it states no zone"),
    _time("modified", "record modification time as the record states it, UTC where it states no zone"),
    Column("content_hash", Text, nullable=False, comment="sha256 of the body as JSONB writes it, hex"),
    Column("body", JSONB, nullable=False, comment="the record as it was read"),
    _time("first_seen", "first ingested", nullable=False, now=True),
    _time("last_changed", "content last changed", nullable=False, now=True),
    Column("run_id", Text, comment="Dagster run that last changed it"),
    schema="docdb",
    comment="Metadata records as DocDB has them now",
)
Index("ix_records_location", docdb_records.c.location)
Index("ix_records_name", docdb_records.c.name)

docdb_record_versions = Table(
    "record_versions",
    metadata,
    Column("record_version", Text, primary_key=True, comment="v1 or v2, from the record's content"),
    Column("id", Text, primary_key=True, comment="the record's _id"),
    Column("valid_from", DateTime(timezone=True), primary_key=True, comment="when the mirror first had this content"),
    _time("valid_to", "when the mirror had it no more, by change or deletion; null while it holds"),
    Column("source", Text, nullable=False, comment="database.collection it was read from"),
    Column("content_hash", Text, nullable=False, comment="sha256 of the body as JSONB writes it, hex"),
    Column("body", JSONB, nullable=False, comment="the record as it was read"),
    Column("run_id", Text, comment="Dagster run that wrote it"),
    schema="docdb",
    comment="Every content ever seen of every record; one open row per live record",
)
Index(
    "ix_record_versions_open",
    docdb_record_versions.c.record_version,
    docdb_record_versions.c.id,
    unique=True,
    postgresql_where=docdb_record_versions.c.valid_to.is_(None),
)

docdb_watermarks = Table(
    "watermarks",
    metadata,
    Column("source", Text, primary_key=True, comment="database.collection"),
    _time("modified", "highest modified time seen, never later than the clock of the pass that saw it"),
    _time("ticked_at", "end of the last tick"),
    _time("manifest_at", "end of the last manifest pass"),
    _time("full_at", "end of the last full pass"),
    Column(
        "manifest_passes",
        BigInteger,
        nullable=False,
        server_default=text("0"),
        comment="manifest passes so far: which part of the records is next to be read again whole",
    ),
    Column(
        "without_modified",
        BigInteger,
        comment="records without usable modified time at the last manifest or full pass",
    ),
    schema="docdb",
    comment="How far each source was read",
)

docdb_held_deletions = Table(
    "held_deletions",
    metadata,
    Column("record_version", Text, primary_key=True, comment="v1 or v2"),
    Column("id", Text, primary_key=True, comment="the record's _id"),
    Column("source", Text, nullable=False, comment="database.collection that no longer has it"),
    _time("first_held", "when it was first missed and held", nullable=False, now=True),
    Column("reason", Text, nullable=False, comment="why it was not removed without a person's word"),
    schema="docdb",
    comment="Records that their source no longer has, kept until a person confirms the deletion",
)

docdb_findings = _findings("docdb", "record_version/_id, or a location")

# --- metadata_service: answers about subjects --------------------------------------------------------------------

metadata_service_answers = Table(
    "answers",
    metadata,
    Column("endpoint", Text, primary_key=True, comment="e.g. subject, procedures"),
    Column("key", Text, primary_key=True, comment="what was asked for, e.g. the subject id"),
    Column("status", Integer, nullable=False, comment="HTTP status code of the answer"),
    Column("message", Text, comment="the service's message"),
    Column("data", JSONB, comment="the service's data, null when it had none"),
    _time("fetched_at", "when it was asked", nullable=False, now=True),
    Column("run_id", Text, comment="Dagster run that asked"),
    schema="metadata_service",
    comment="Last answer of the metadata-service per endpoint and key",
)

metadata_service_findings = _findings("metadata_service", "subject id")

# --- indexes: what Code Ocean and S3 have ------------------------------------------------------------------------

code_ocean_assets = Table(
    "code_ocean_assets",
    metadata,
    Column("id", Text, primary_key=True, comment="Code Ocean data asset id"),
    Column("name", Text, nullable=False),
    _time("created", "creation time in Code Ocean", nullable=False),
    Column("state", Text, comment="draft, ready or failed"),
    Column("type", Text, comment="dataset, result, combined or model"),
    Column("size", BigInteger, comment="bytes"),
    Column("tags", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("data_level", Text, comment="custom_metadata 'data level'"),
    Column("session_id", Text, comment="normalised session id in the name, if there is one"),
    Column("location", Text, comment="source bucket as a URI, null for assets held by Code Ocean itself"),
    Column("body", JSONB, nullable=False, comment="the asset as Code Ocean describes it"),
    _time("seen_at", "refresh that last saw it", nullable=False, now=True),
    schema="indexes",
    comment="Code Ocean data assets at the last complete refresh",
)
Index("ix_code_ocean_assets_session_id", code_ocean_assets.c.session_id)
Index("ix_code_ocean_assets_name", code_ocean_assets.c.name)

s3_prefixes = Table(
    "s3_prefixes",
    metadata,
    Column("bucket", Text, primary_key=True),
    Column("prefix", Text, primary_key=True, comment="top-level folder, without slash: an asset's name"),
    Column("session_id", Text, comment="normalised session id in the name, if there is one"),
    Column("children", ARRAY(Text), nullable=False, comment="folders directly below, without slash"),
    _time("seen_at", "refresh that last saw it", nullable=False, now=True),
    schema="indexes",
    comment="Top-level folders of the asset buckets at the last complete refresh",
)
Index("ix_s3_prefixes_session_id", s3_prefixes.c.session_id)

index_refreshes = Table(
    "refreshes",
    metadata,
    Column("source", Text, primary_key=True, comment="code_ocean, or s3://bucket"),
    _time("completed_at", "end of the last complete refresh", nullable=False, now=True),
    Column("rows", Integer, nullable=False, comment="what it found"),
    Column("requests", Integer, nullable=False, comment="requests it made"),
    schema="indexes",
    comment="Last complete refresh per index",
)

session_findings = _findings("indexes", "session id, or asset name")

# --- archive: the ledger -----------------------------------------------------------------------------------------

archive_copies = Table(
    "copies",
    metadata,
    Column("archive", Text, primary_key=True, comment="registered archive name"),
    Column("id", Text, primary_key=True, comment="resource identifier"),
    Column("kind", Text, nullable=False, comment="file or directory"),
    Column("path", Text, nullable=False, comment="path below the archive's resources folder"),
    Column("size", BigInteger, nullable=False, comment="bytes of content"),
    Column("files", Integer, nullable=False, comment="regular files, 1 for a file resource"),
    Column("sha1", Text, nullable=False, comment="neurobank digest, hex"),
    Column("blake3", Text, nullable=False, comment="second digest, hex"),
    Column("source", Text, comment="where it was deposited from"),
    Column("session_id", Text, comment="session it belongs to, if any"),
    Column("record_id", Text, comment="DocDB record it belongs to, if any"),
    _time("deposited_at", "when its location was registered", nullable=False, now=True),
    _time("last_verified_at", "when every byte was last read and found good"),
    Column("run_id", Text, comment="Dagster run that deposited it"),
    schema="archive",
    comment="What we know of each copy",
)
Index("ix_copies_session_id", archive_copies.c.session_id)

archive_checks = Table(
    "checks",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    Column("archive", Text, nullable=False),
    Column("tier", Text, nullable=False, comment="full, exists, scrub or sample"),
    _time("started_at", "when it started", nullable=False),
    _time("ended_at", "when it ended", nullable=False, now=True),
    Column("resources", Integer, nullable=False, comment="resources looked at"),
    Column("bytes", BigInteger, nullable=False, comment="bytes read"),
    Column("findings", Integer, nullable=False, comment="resources found bad"),
    Column("passed", Boolean, nullable=False),
    Column("run_id", Text),
    schema="archive",
    comment="Every archive check that ran to its end",
)

archive_findings = _findings("archive", "archive/resource id")

# --- public: analysts' tables ------------------------------------------------------------------------------------

data_assets = Table(
    "data_assets",
    metadata,
    Column("id", Text, primary_key=True, comment="DocDB _id", info=made_of(("docdb_records", "id"))),
    Column("name", Text, comment="asset name"),
    Column("location", Text, comment="S3 location"),
    Column("subject_id", Text, comment="subject the record names"),
    Column("platform", Text, comment="platform abbreviation, from the record or else the name"),
    _time("acquisition_time", "start of the acquisition; UTC where the record states no zone"),
    Column("data_level", Text, comment="raw, derived or simulated"),
    Column("modalities", ARRAY(Text), comment="modality abbreviations, sorted"),
    Column("process_name", Text, comment="process that made a derived asset, e.g. sorted"),
    Column("project_name", Text, comment="project the record names"),
    Column("institution", Text, comment="institution abbreviation"),
    Column("code_ocean_ids", ARRAY(Text), comment="Code Ocean data asset ids the record names"),
    _time("created", "record creation time"),
    _time("modified", "record modification time"),
    Column("schema_version", Text, comment="the record's own schema_version"),
    Column(
        "record_version",
        Text,
        primary_key=True,
        comment="v1 or v2",
        info=made_of(("docdb_records", "record_version")),
    ),
    comment="One row per metadata record",
)
Index("ix_data_assets_name", data_assets.c.name)
Index("ix_data_assets_subject_id", data_assets.c.subject_id)

subjects = Table(
    "subjects",
    metadata,
    Column("subject_id", Text, primary_key=True, comment="the subject's id, e.g. six digits"),
    Column("sex", Text, comment="Female or Male, as recorded"),
    Column("date_of_birth", Date, comment="date of birth, as recorded"),
    Column("genotype", Text, comment="genotype, as recorded"),
    Column("species", Text, comment="species name"),
    Column("asset_count", Integer, nullable=False, comment="records that name this subject"),
    _time("first_acquisition", "earliest acquisition of any of them"),
    _time("last_acquisition", "latest acquisition of any of them"),
    Column(
        "record_id",
        Text,
        comment="record the subject's own fields were taken from: the latest modified one",
        info=made_of(("docdb_records", "id")),
    ),
    Column(
        "record_version",
        Text,
        comment="version of that record",
        info=made_of(("docdb_records", "record_version")),
    ),
    comment="One row per subject named by a record",
)

session_assets = Table(
    "session_assets",
    metadata,
    Column("session_id", Text, primary_key=True, comment="platform_subject_date_time"),
    Column("month", Date, nullable=False, comment="first day of the month of the session id's date"),
    Column("platform", Text, nullable=False, comment="platform, from the id"),
    Column("subject_id", Text, nullable=False, comment="subject, from the id"),
    Column("session_time", DateTime(timezone=False), nullable=False, comment="from the id: local, no zone"),
    Column("raw_asset_name", Text, comment="name of the raw asset; null when there is none"),
    Column("raw_record_version", Text, comment="v1 or v2: version of the raw asset's record"),
    Column("raw_record_id", Text, comment="DocDB record of the raw asset"),
    Column("raw_code_ocean_id", Text, comment="Code Ocean id of the raw asset"),
    Column("raw_data_dir", Text, comment="URI of the raw data, checked to exist; null when it does not"),
    Column("modalities", ARRAY(Text), comment="folders of the raw data, as modalities"),
    Column(
        "derived",
        JSONB,
        nullable=False,
        comment="[{name, process, code_ocean_id, location, created}] by created",
    ),
    _time("resolved_at", "when this row last changed", nullable=False, now=True),
    Column("run_id", Text, comment="Dagster run that last changed this row"),
    comment="One row per session: its raw asset, its data and what was derived from it",
)
Index("ix_session_assets_month", session_assets.c.month)
Index("ix_session_assets_subject_id", session_assets.c.subject_id)

# --- tables: what the analysts' tables were derived from -------------------------------------------------------------

derived_records = Table(
    "derived_records",
    metadata,
    Column("record_version", Text, primary_key=True, comment="v1 or v2"),
    Column("record_id", Text, primary_key=True, comment="DocDB _id of the record"),
    Column("content_hash", Text, nullable=False, comment="content of the record that its rows were derived from"),
    Column("code", Text, nullable=False, comment="digest of the code that derived them"),
    Column("tables", ARRAY(Text), nullable=False, comment="tables whose rows are of that content and that code"),
    schema="tables",
    comment="What the rows of each record were derived from: only what changed since is derived again",
)

subject_statements = Table(
    "subject_statements",
    metadata,
    *record_columns("statement"),
    Column("subject_id", Text, nullable=False, comment="subject the record names"),
    _time("acquisition_time", "start of the acquisition"),
    _time("modified", "record modification time"),
    Column("sex", Text, comment="as recorded"),
    Column("date_of_birth", Date),
    Column("genotype", Text),
    Column("species", Text, comment="species name"),
    schema="tables",
    comment="What each record says of its subject; subjects is made of it",
)

publications = Table(
    "publications",
    metadata,
    Column("table_name", Text, primary_key=True),
    Column("rows", BigInteger, nullable=False, comment="rows it had then"),
    _time("published_at", "when a run last brought it up to date", nullable=False, now=True),
    _time("changed_at", "when a run last changed its content"),
    Column("run_id", Text, comment="Dagster run that last brought it up to date"),
    schema="tables",
    comment="When each analysts' table was last brought up to date",
)

table_findings = _findings("tables", "record_version/_id")

FINDINGS = {
    "docdb": docdb_findings,
    "metadata_service": metadata_service_findings,
    "sessions": session_findings,
    "archive": archive_findings,
    "tables": table_findings,
}
"""Findings tables by stage."""

ANALYSTS_TABLES = (data_assets, subjects, *RECORD_TABLES)
"""The tables that are derived from the records, all in ``public``."""
