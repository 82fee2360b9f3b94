"""Plain Python clients of the external systems: DocDB, RDS, metadata-service, Code Ocean, S3, registry, SSH, secrets.

Nothing here knows Dagster. Retries live here, once, for what is safe to repeat.
"""
