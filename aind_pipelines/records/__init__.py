"""Metadata records: the grammar of names, reading any schema version, and one normalised shape.

Pure functions: nothing here reads a network, a file or a database.
"""
