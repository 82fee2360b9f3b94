"""Dagster assets, one module per stage of the flow.

Thin: an asset takes resources, calls one function of the room that does the work, and says what happened in its
metadata. Logic belongs below. No module here uses ``from __future__ import annotations``: Dagster reads the
annotation of ``context`` when the asset is defined.
"""
