"""``python -m aind_pipelines.cli`` is the ``aind-pipelines`` command."""

from aind_pipelines.cli import main

main()
