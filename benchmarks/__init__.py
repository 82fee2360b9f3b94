"""Benchmarks: ``python -m benchmarks NAME [--json]``.

Each prints ``{"rows": [{"name", "unit", "value", "reach", "ok"}]}``: the value is the median of the samples, `reach`
the number to reach, `ok` whether the median reaches it. Nothing stored is ever used, and nothing of the caller's
environment: see `benchmarks.environment`.
"""
