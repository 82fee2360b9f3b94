"""Write the data dictionary from the models: ``python docs/write_data_dictionary.py`` renews data_dictionary.md."""

from pathlib import Path

from sqlalchemy.dialects import postgresql

from aind_pipelines.tables.schema import ANALYSTS_TABLES, session_assets

HEAD = """# Data dictionary

Written from the models in `aind_pipelines/tables` by `python docs/write_data_dictionary.py`. How to ask:
[tables.md](tables.md)."""


def dictionary() -> str:
    """Every column of the analysts' tables, as Markdown."""
    dialect = postgresql.dialect()
    parts = [HEAD]
    for table in sorted((*ANALYSTS_TABLES, session_assets), key=lambda table: table.name):
        key = ", ".join(f"`{column.name}`" for column in table.primary_key)
        parts.append(f"\n## {table.name}\n\n{table.comment}. Key: {key}.\n")
        parts.append("| column | type | null | meaning |\n| --- | --- | --- | --- |")
        for column in table.columns:
            kind = column.type.compile(dialect=dialect).lower()
            parts.append(f"| `{column.name}` | {kind} | {'yes' if column.nullable else ''} | {column.comment or ''} |")
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    Path(__file__).with_name("data_dictionary.md").write_text(dictionary(), encoding="utf-8")
