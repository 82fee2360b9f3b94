"""HTTP services that we host: the DocDB REST gateway, the metadata-service and the neurobank registry.

Nothing here knows Dagster or the lab.
"""
