"""Schedules: what runs by the clock. None yet: the flow is launched by command or by hand."""
