"""The embedded institute: starts, supervises and seeds every external service on loopback.

Only `aind_pipelines.cli`, the tests and the benchmarks know the lab.
"""
