"""The DocDB REST gateway: metadata records over HTTP, reads for everyone, writes for signed callers.

It answers the requests that `aind-data-access-api` sends (recorded request lines are its contract): v1 and v2 routes,
AWS SigV4 on everything that writes. Modules: `sigv4` (who signed), `store` (DocDB), `routes` (HTTP), `app` (assembly).
"""
