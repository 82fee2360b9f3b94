"""``python -m aind_pipelines.services.docdb_gateway``."""

from aind_pipelines.services.docdb_gateway.app import main
from aind_pipelines.services.serving import run_service

if __name__ == "__main__":
    run_service("docdb_gateway", main)
