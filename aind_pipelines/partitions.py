"""The partitions of the project: months of sessions, and archives.

Records, tables and indexes are not partitioned: they are incremental inside.
"""

import dagster as dg

FIRST_MONTH = "2016-01-01"
"""No session id is older: the grammar of session ids starts with 2016."""

months = dg.MonthlyPartitionsDefinition(start_date=FIRST_MONTH, end_offset=1)
"""Month of the date in the session id (local time, no zone); ``end_offset=1`` gives the current month a partition."""

archives = dg.DynamicPartitionsDefinition(name="archives")
"""Archives of this deployment, by registered name."""
