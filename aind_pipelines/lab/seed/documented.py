"""What the published documents name, and every seed therefore holds.

The guides of aind-session and aind-metadata-service show these ids with the answers to expect.
"""

from __future__ import annotations

from datetime import UTC, date, datetime

SORTED_SESSION = "ecephys_676909_2023-12-13_13-43-40"
SORTED_SESSION_RAW_ID = "16d46411-540a-4122-b47f-8cb2a15d593a"
OTHER_SORTED_SESSION = "ecephys_676909_2023-12-11_14-24-35"

EPHYS_SUBJECT = "676909"
EPHYS_GENOTYPE = "Pvalb-IRES-Cre/wt;Ai32(RCL-ChR2(H134R)_EYFP)/wt"
QUERIED_SUBJECT = "731015"
ANSWERED_SUBJECT = "775745"
SUBJECTS = (EPHYS_SUBJECT, QUERIED_SUBJECT, ANSWERED_SUBJECT)

LOT = "VT3214G"
PROTOCOL = "Protocol-123"
PROJECT = "Project-ABC"
IMAGING_FROM, IMAGING_TO = date(2023, 1, 1), date(2023, 12, 31)

TRIGGER_CAPSULE = "eb5a26e4-a391-4d79-9da5-1ab65b71253f"
"""Capsule through which spike sorting is started (aind-session)."""
SORTING_PIPELINE = "1f8f159a-7670-47a9-baf1-078905fc9c2e"
"""Pipeline that sorts (aind-session)."""

SESSIONS: tuple[tuple[str, str, datetime, int], ...] = (
    ("ecephys", EPHYS_SUBJECT, datetime(2023, 12, 11, 14, 24, 35), 96),  # noqa: DTZ001 - local, as session ids are
    ("ecephys", EPHYS_SUBJECT, datetime(2023, 12, 13, 13, 43, 40), 104),  # noqa: DTZ001
    ("single-plane-ophys", QUERIED_SUBJECT, datetime(2025, 2, 3, 10, 15, 30), 62),  # noqa: DTZ001
    ("FIP", ANSWERED_SUBJECT, datetime(2023, 5, 16, 9, 41, 7), 48),  # noqa: DTZ001
    ("ecephys", ANSWERED_SUBJECT, datetime(2023, 6, 21, 11, 2, 53), 88),  # noqa: DTZ001
    ("SmartSPIM", ANSWERED_SUBJECT, datetime(2023, 11, 20, 15, 33, 18), 140),  # noqa: DTZ001
)
"""Platform, subject, local start and minutes of the sessions in every seed."""

SORTED_AT = {
    SORTED_SESSION: datetime(2024, 3, 1, 16, 2, 45, tzinfo=UTC),
    OTHER_SORTED_SESSION: datetime(2024, 3, 29, 11, 29, 39, tzinfo=UTC),
}
"""When the sessions that the guides show were sorted: the names of those assets end so."""

BORN = {
    EPHYS_SUBJECT: date(2023, 8, 14),
    QUERIED_SUBJECT: date(2024, 8, 27),
    ANSWERED_SUBJECT: date(2022, 12, 30),
}
