"""``python -m aind_pipelines.services.metadata_service``."""

from aind_pipelines.services.metadata_service.app import main
from aind_pipelines.services.serving import run_service

if __name__ == "__main__":
    run_service("metadata_service", main)
