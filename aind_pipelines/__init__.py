"""Dagster pipelines for a neuroscience institute.

They keep metadata, tables, session assets and archives true to each other, and can prove it.
"""
