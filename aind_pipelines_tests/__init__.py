"""Tests of `aind_pipelines`: they mirror the package; `end_to_end` drives the real thing."""
