"""The question for one page of an archive's contents, for each engine."""

from __future__ import annotations

# The order is that of the bytes of the ids, whatever the database's language: callers merge the list with others.
# Each walks the index on the names and looks up the location, so that a page costs the same wherever it begins;
# CROSS JOIN keeps SQLite to that order. The operators with tildes are those of Postgres' text_pattern_ops index, which
# Django makes for every slug.
PAGE = {
    "sqlite": """
        SELECT r.id FROM nbank_registry_resource r
        CROSS JOIN nbank_registry_location l ON l.resource_id = r.id AND l.archive_id = %s
        WHERE r.name > %s ORDER BY r.name LIMIT %s""",
    "postgresql": """
        SELECT r.id FROM nbank_registry_resource r
        JOIN nbank_registry_location l ON l.resource_id = r.id AND l.archive_id = %s
        WHERE r.name ~>~ %s ORDER BY r.name USING ~<~ LIMIT %s""",
}  # fmt: skip
"""By Django's name of the engine; parameters: the archive's primary key, the name to begin after, the most rows."""
