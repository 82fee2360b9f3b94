"""The metadata-service: what the institute's databases say, in the envelope of v1 and the plain models of v2.

Modules: `source` (where the models come from), `generations` (v1 models in the shapes of v2), `v1` and `v2` (paths
and status codes of each), `app` (assembly and command line).
"""
