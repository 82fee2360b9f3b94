"""The neurobank registry: django-neurobank on SQLite or Postgres, served by waitress.

Which resources exist, their sha1 and where they are. `server` migrates, makes users and serves; `site` is the Django
settings module, built from the environment.
"""
