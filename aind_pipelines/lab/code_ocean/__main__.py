"""``python -m aind_pipelines.lab.code_ocean``."""

from aind_pipelines.lab.code_ocean.app import main
from aind_pipelines.services.serving import run_service

if __name__ == "__main__":
    run_service("code_ocean", main)
