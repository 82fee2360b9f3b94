from aind_pipelines_tests.house import (
    code_ocean,
    engine,
    house,
    migrated_template,
    moto_url,
    postgres_url,
    registry_process,
    s3,
)

__all__ = [
    "code_ocean",
    "engine",
    "house",
    "migrated_template",
    "moto_url",
    "postgres_url",
    "registry_process",
    "s3",
]
