"""Sessions and subjects: what belongs to a session and where it is, resolved from shared indexes."""
