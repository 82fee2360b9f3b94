from aind_pipelines_tests.postgres import empty_database, engine, migrated_template, postgres_url

__all__ = ["empty_database", "engine", "migrated_template", "postgres_url"]
