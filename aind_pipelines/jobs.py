"""Jobs: what is launched together. A job holds at most one partitions definition."""
