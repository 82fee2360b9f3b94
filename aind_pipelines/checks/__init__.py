"""Asset checks, one module per stage, named as the assets they check.

A check reads what a stage left behind and says pass or fail, with the numbers. Checks that must stop what is
downstream are blocking.
"""

from aind_pipelines.checks import archives, metadata, subjects, tables

ALL = [
    metadata.record_counts_agree,
    metadata.every_source_was_read,
    metadata.no_location_is_named_twice,
    metadata.deletions_are_not_held,
    tables.every_record_has_a_row,
    tables.every_named_subject_has_a_row,
    tables.schema_is_as_migrated,
    tables.rows_agree_with_data_assets,
    subjects.every_subject_was_asked_for,
    archives.every_deposit_is_registered,
    archives.archive_is_sound,
]
"""Every asset check, in the order of the flow."""
