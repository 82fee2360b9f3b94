"""The lab's DocDB: a server that speaks MongoDB's wire protocol and keeps its documents in one SQLite file.

Connections, framing, SCRAM, cursors, indexes and persistence are real. Query semantics are written here after
MongoDB's documentation and cover what this project and its published clients ask; everything else is refused with an
error and never answered approximately. See ``docs/embedded_docdb.md``.

Start it with ``python -m aind_pipelines.lab.docdb``.
"""
