"""The RDS schema (models and Alembic migrations) and the derivation of analysts' tables from records."""
