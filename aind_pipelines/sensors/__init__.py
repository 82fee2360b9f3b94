"""Sensors: discovery with cursors and time budgets, one module per stage.

A sensor discovers and adds partitions or requests a run; it does no work itself, and an outage fails its tick.
"""
