from aind_pipelines_tests.clients.conftest import bastion, docdb, gateway, mongo
from aind_pipelines_tests.postgres import empty_database, engine, migrated_template, postgres_url

__all__ = ["bastion", "docdb", "empty_database", "engine", "gateway", "migrated_template", "mongo", "postgres_url"]
