"""Jobs: what is launched together. A job holds at most one partitions definition.

`FLOW` is the whole flow, one job per partitioning, in the order in which they are run.
"""

import dagster as dg

ingest = dg.define_asset_job(
    "ingest",
    dg.AssetSelection.groups("metadata", "tables", "subjects", "indexes"),
    description="Records, analysts' tables, subjects and indexes: everything that is not partitioned.",
)
sessions = dg.define_asset_job(
    "sessions",
    dg.AssetSelection.assets("session_assets", "deposited_resources"),
    description="Session assets and their deposits, by month of the session.",
)
deposit_inboxes = dg.define_asset_job(
    "deposit_inboxes",
    dg.AssetSelection.assets("inbox_deposits"),
    description="What is ready in the inboxes of one archive.",
)
check_archives = dg.define_asset_job(
    "check_archives",
    dg.AssetSelection.assets("archive_fixity"),
    description="Every byte of one archive, compared with the registry.",
)
report = dg.define_asset_job("report", dg.AssetSelection.assets("flow_report"), description="The flow on one page.")

follow_docdb = dg.define_asset_job(
    "follow_docdb",
    dg.AssetSelection.groups("metadata", "tables"),
    description="Records and the analysts' tables alone: what a change in DocDB leads to.",
)

FLOW = (ingest, sessions, deposit_inboxes, check_archives, report)
