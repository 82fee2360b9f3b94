"""One ``ConfigurableResource`` per external system: it builds a client, opens it and closes it.

Fields default to None and are resolved from `aind_pipelines.settings` at set-up; an explicit value or ``EnvVar`` wins.
A resolved secret is never a field's value nor in a ``repr``.
"""
